"""Rescale posterior samples about their prediction, so that their credible regions are calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import chdtri
from torch import Tensor


@dataclass(frozen=True)
class SampleScaling:
    """Maps a sample ``x`` to ``centre + scale * t * (x - centre)``.

    Decoded joints are rescaled, not latents: a decoder is undefined several posterior standard deviations away.

    Attributes:
        scale: Above 1 for an over-confident posterior.
        dof: Degrees of freedom of ``t = (dof / chi^2_dof)^(1/2)``, which makes the tails those of Student's t
            distribution; 0 for ``t = 1``.
        tta_angles: If not 0, ``x - centre`` is first rescaled to the TTA disagreement over this many angles
            (:mod:`cvhpe.uncertainty.tta_disagreement`).
    """

    scale: float = 1.0
    dof: float = 0.0
    tta_angles: int = 0

    def factors(self, count: int) -> np.ndarray:
        """``scale * t`` of ``count`` samples: quantiles of t rather than random numbers, which vary with few samples.

        >>> SampleScaling(2.0).factors(3)
        array([2., 2., 2.])
        >>> SampleScaling(1.0, 3.0).factors(3).round(2)
        array([0.77, 1.13, 1.86])
        """
        if not self.dof:
            return np.full(count, self.scale)
        quantiles = (np.arange(count) + 0.5) / count
        return self.scale * np.sqrt(self.dof / chdtri(self.dof, quantiles))

    def rescale_samples(
        self,
        samples: Tensor,
        centre: Tensor,
        generator: torch.Generator | None = None,
        disagreement: Tensor | None = None,
    ) -> Tensor:
        """Rescale samples about their prediction.

        Args:
            samples: ``[N, ..., J, 3]`` mm.
            centre: ``[..., J, 3]`` mm.
            generator: Shuffles the factors over the samples; ascending if None.
            disagreement: ``[...]`` mm, TTA disagreement; needed if and only if ``tta_angles`` is set.

        Returns:
            ``[N, ..., J, 3]`` mm.

        Raises:
            ValueError: ``disagreement`` is missing, or given without ``tta_angles``.

        Example:
            >>> SampleScaling(2.0).rescale_samples(torch.tensor([[[5.0, 0.0, 0.0]]]), torch.tensor([[4.0, 0.0, 0.0]]))
            tensor([[[6., 0., 0.]]])
        """
        if (disagreement is None) != (not self.tta_angles):
            raise ValueError("rescale_samples: give disagreement if and only if tta_angles is set")
        factors = torch.from_numpy(self.factors(len(samples))).to(samples)
        if generator is not None and self.dof:
            factors = factors[torch.randperm(len(samples), generator=generator)]
        deviations = samples - centre
        if disagreement is not None:
            deviations = deviations * (disagreement / geometric_mean_rms(deviations))[..., None, None]
        return centre + factors.view(-1, *[1] * centre.dim()) * deviations


UNSCALED = SampleScaling()


def sample_std(samples: Tensor, centre: Tensor) -> Tensor:
    """Root mean square distance of samples from their prediction.

    Args:
        samples: ``[N, ..., J, 3]``.
        centre: ``[..., J, 3]``.

    Returns:
        ``[..., J]``.

    Example:
        >>> sample_std(torch.tensor([[[3.0, 0.0, 4.0]], [[5.0, 0.0, 0.0]]]), torch.zeros(1, 3))
        tensor([5.])
    """
    return (samples - centre).square().sum(-1).mean(0).sqrt()


def geometric_mean_rms(deviations: Tensor) -> Tensor:
    """Geometric mean over joints of the RMS deviation. Joints without deviation, such as the root, do not count.

    Args:
        deviations: ``[N, ..., J, 3]``.

    Returns:
        ``[...]``.

    Example:
        >>> geometric_mean_rms(torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.8], [0.0, 0.0, 0.0]]]))
        tensor(2.)
    """
    rms = deviations.square().sum(-1).mean(0).sqrt()
    varies = rms > 1e-9
    return (rms.where(varies, torch.ones_like(rms)).log().sum(-1) / varies.sum(-1).clamp_min(1)).exp()
