"""Counter-based random numbers: frame ``i`` gets the same ones in any batch.

numpy's generators give one stream each; a stream per frame would cost a Python object a frame. Here a number is a hash
of (seed, stream name, frame, counter), so a batch of frames is sampled in one array operation. The hash is the
splitmix64 finaliser (Steele, Lea & Flood, OOPSLA 2014).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

Array = np.ndarray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MUL1, _MUL2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(s) for s in (30, 27, 31, 11))


def _mix(x: Array | np.uint64) -> Array:
    x = (x ^ (x >> _S30)) * _MUL1
    x = (x ^ (x >> _S27)) * _MUL2
    return np.asarray(x ^ (x >> _S31))


class CounterRng:
    """Random numbers ``[N, *shape]``, float64, of a batch of frames (or persons).

    Args:
        seed: Any integer.
        index: ``[N]`` integers: which frames.
        stream: What is sampled. Streams of different names are independent, so that one part of the generator can
            change without changing the others.

    Example:
        >>> a = CounterRng(7, np.arange(4), "pose").uniform(2)
        >>> b = CounterRng(7, np.arange(2, 4), "pose").uniform(2)
        >>> bool((a[2:] == b).all())
        True
    """

    def __init__(self, seed: int, index: Array, stream: str) -> None:
        with np.errstate(over="ignore"):
            name = np.uint64(zlib.crc32(stream.encode()))
            base = _mix(_mix(np.uint64(seed % 2**64) + _GOLDEN) + name * _GOLDEN)
            self._key = _mix(base + (np.asarray(index).astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        self._counter = 0

    def __len__(self) -> int:
        return len(self._key)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Array:
        """Uniform numbers.

        Args:
            shape: Of one frame's numbers.
            low: Lower end, excluded.
            high: Upper end, excluded.

        Returns:
            ``[N, *shape]``.
        """
        size = int(np.prod(shape, dtype=np.int64))
        steps = np.arange(self._counter + 1, self._counter + 1 + size, dtype=np.uint64)
        self._counter += size
        with np.errstate(over="ignore"):
            bits = _mix(self._key[:, None] + steps * _GOLDEN) >> _S11
        unit = (bits.astype(np.float64) + 0.5) * 2.0**-53
        return (low + (high - low) * unit).reshape(len(self._key), *shape)

    def normal(self, *shape: int, sigma: float = 1.0) -> Array:
        """Normal numbers ``[N, *shape]`` with mean 0 and standard deviation ``sigma``."""
        return sigma * ndtri(self.uniform(*shape))

    def bernoulli(self, p: float | Array, *shape: int) -> Array:
        """Bool, True with probability ``p`` (which broadcasts against ``[N, *shape]``)."""
        return self.uniform(*shape) < p

    def categorical(self, weights: Sequence[float]) -> Array:
        """``[N]`` integers, index ``k`` with probability proportional to ``weights[k]``."""
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.minimum(np.searchsorted(edges / edges[-1], self.uniform(), side="right"), len(edges) - 1)
