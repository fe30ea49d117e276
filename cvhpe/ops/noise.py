"""Reference implementation of the kernels' noise: Philox 4x32-10 and Box-Muller, a function of seed and element index.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Elements come in groups of 64, sixteen
Philox counters to a group: element ``64 g + 16 w + j`` is normal ``w`` of counter ``16 g + j``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOW = 0xFFFFFFFF


def _multiply(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of the product; int64 wraps, which leaves all 64 bits right."""
    product = a * b
    return (product >> 32) & LOW, product & LOW


def philox(low: Tensor, high: Tensor, seed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words of each counter.

    Args:
        low: int64, the low 32 bits of the counters.
        high: int64, their high 32 bits.
        seed: One int64 element.

    Returns:
        Four int64 tensors in 0 .. 2^32 - 1.
    """
    c0, c1, c2, c3 = low, high, torch.zeros_like(low), torch.zeros_like(low)
    k0, k1 = seed & LOW, (seed >> 32) & LOW
    for _ in range(10):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high1, low1 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c0, c1, c2, c3


def _on_circle(word: Tensor) -> tuple[Tensor, Tensor]:
    """A uniformly distributed point of the unit circle for each word.

    The lower 30 bits are an angle in [-pi/4, pi/4); bit 31 reflects the point in the y axis, then bit 30 in the
    diagonal.
    """
    low = word & 0x3FFFFFFF
    angle = (low - ((low & 0x20000000) << 1)).double() * (math.pi / 2 * 2.0**-30)
    cosine = torch.where(word >= 1 << 31, -angle.cos(), angle.cos())
    sine, swap = angle.sin(), (word & 0x40000000) != 0
    return torch.where(swap, sine, cosine), torch.where(swap, cosine, sine)


def normal(shape: tuple[int, ...], seed: Tensor) -> Tensor:
    """Standard normal noise, equal to the kernels' up to float32 rounding.

    Args:
        shape: Shape of the result.
        seed: One int64 element.

    Returns:
        float32 noise on the device of ``seed``; |noise| is at most 5.77.
    """
    count = math.prod(shape)
    groups = -(-count // 64)
    counter = torch.arange(16 * groups, device=seed.device)
    words = philox(counter & LOW, counter >> 32, seed.reshape(1))
    pairs = []
    for radius_word, angle_word in (words[:2], words[2:]):
        uniform = ((radius_word >> 8) + 1).double() * 2.0**-24
        radius = (-2 * uniform.log()).sqrt()
        x, y = _on_circle(angle_word)
        pairs += [radius * x, radius * y]
    four = torch.stack(pairs).float()  # [4, 16 groups]
    return four.reshape(4, groups, 16).transpose(0, 1).reshape(-1)[:count].reshape(shape)
