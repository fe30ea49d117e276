"""Several inputs of one hand at once: a product of experts in latent space, weighed on held-out hands.

With inputs that are independent given the latent ``z``, Bayes' rule gives

    p(z | x_1 .. x_M)  ~  p(z) prod_i p(x_i | z)  ~  p(z) prod_i [ q(z | x_i) / p(z) ].

Every posterior ``q(z|x_i) = N(mu_i, s_i^2)`` holds the prior ``p(z) = N(0, I)`` already, so all but one of the
priors are divided out again. What input ``i`` adds to the prior is the Gaussian factor of precision
``1/s_i^2 - 1`` and natural parameter ``mu_i/s_i^2``; raised to a power ``w_i``, its weight, it gives

    precision  T  = 1 + sum_i w_i (1/s_i^2 - 1)          mean  = (1/T) sum_i w_i mu_i / s_i^2.

One input of weight 1 is its own posterior again, for all others of weight 0 as well. An input cannot know less
than the prior: ``s_i^2`` above 1, which a trained encoder comes to for dimensions it does not use, counts as 1.

Encoders trained with a small ``beta`` are surer than they are right, each by factors of its own, and as sure of a hand
that they see badly as of any other: their own ``s_i^2`` says what the decoder makes use of, not how wrong ``mu_i`` is.
:func:`cvhpe.uncertainty.calibration.calibrate` therefore measures on held-out hands how precise each input is in
each dimension,
``P_i`` ``[D]``, the same for all hands, and these stand in the product for ``1/s_i^2``. Where hands that had no say in
them are not the better for it, the posteriors keep their own precisions, under weights that the held-out hands choose,
among all candidates those of each input alone: on these hands fusion is never worse than the better input. The same
hands tell how much wider, and of what other shape, posterior samples must be to hold the truth as often as they say
(:class:`SampleScaling`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import chdtri
from torch import Tensor

from cvhpe.models.fusion import FusionParams

CANDIDATES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Weights that are tried for each input."""
SPREAD_SAMPLES = 32
CALIBRATION = "calibration"
"""Where a run's metadata keep its calibration, under ``training``."""


@dataclass(frozen=True)
class SampleScaling:
    """How samples are widened about their prediction: a sample ``x`` becomes ``centre + scale * t * (x - centre)``.

    scale: above 1 where an encoder is surer than it is right. dof: t, one for each sample, is the scale of Student's
    distribution of so many degrees of freedom, ``(dof / chi^2_dof)^(1/2)``: an encoder that does not know which of its
    hands are the hard ones errs by a mixture of little and much, which no Gaussian is. 0: t is 1.
    turns: 0, or that ``x - centre`` first gets the spread of what a prediction says of the hand turned so often, and
    mirrored (:mod:`cvhpe.uncertainty.tta_disagreement`): which hands are the hard ones is then known better than the
    encoder knows it.

    It is the decoded joints that are widened, not the latents: ten times a latent's deviation is far outside of what a
    decoder has seen, and what becomes of it there is another thing for every network, also for those that this was
    found with.
    """

    scale: float = 1.0
    dof: float = 0.0
    turns: int = 0

    def scales(self, samples: int) -> np.ndarray:
        """``scale * t`` of ``samples`` samples, ascending: the middles of as many equally likely parts of t.

        Not drawn by chance: of a few dozen draws from a heavy tail, chance alone would make regions of any size.

        >>> SampleScaling(2.0).scales(3)
        array([2., 2., 2.])
        >>> SampleScaling(1.0, 3.0).scales(3).round(2)
        array([0.77, 1.13, 1.86])
        """
        if not self.dof:
            return np.full(samples, self.scale)
        quantiles = (np.arange(samples) + 0.5) / samples
        return self.scale * np.sqrt(self.dof / chdtri(self.dof, quantiles))

    def rescale_samples(
        self,
        samples: Tensor,
        centre: Tensor,
        generator: torch.Generator | None = None,
        doubt: Tensor | None = None,
    ) -> Tensor:
        """Samples ``[N, ..., J, 3]`` widened about ``centre`` ``[..., J, 3]``; which is widened most is shuffled.

        doubt: ``[...]``, the typical spread that a hand's samples are first given; wanted where ``turns`` is set.
        """
        if (doubt is None) != (not self.turns):
            raise ValueError(
                "rescale_samples: a width with turns needs the doubt of every hand, one without has no use for it"
            )
        scales = torch.from_numpy(self.scales(len(samples))).to(samples)
        if generator is not None and self.dof:
            scales = scales[torch.randperm(len(samples), generator=generator)]
        apart = samples - centre
        if doubt is not None:
            apart = spread_as(apart, doubt)
        return centre + scales.view(-1, *[1] * centre.dim()) * apart


AS_TRAINED = SampleScaling()


@dataclass(frozen=True)
class Calibration:
    """What held-out hands said of a run's posteriors, for every set of inputs (:func:`together`).

    fusions: inputs -> how their posteriors are multiplied. widths: inputs -> how wide their samples become.
    frames: how many hands said so. hands: whose told the widths of single inputs, ``validation`` or ``training`` (held
    out in turn); what concerns several is always of validation hands, as it belongs to the latent space of one model.
    """

    fusions: Mapping[str, FusionParams] = field(default_factory=dict)
    widths: Mapping[str, SampleScaling] = field(default_factory=dict)
    frames: int = 0
    hands: str = "validation"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, as they travel with the weights."""
        return asdict(self)

    def width(self, names: Sequence[str]) -> SampleScaling | None:
        """That of inputs; None where these were not calibrated."""
        return self.widths.get(together(names))

    def told_by(self, names: Sequence[str]) -> str:
        """Whose hands say what is known of some inputs."""
        return self.hands if len(names) == 1 else "validation"


def together(names: Sequence[str]) -> str:
    """Inputs as one name, whatever order they come in.

    >>> together(["rgb", "joints2d"])
    'joints2d,rgb'
    """
    return ",".join(sorted(names))


def spread(joints: Tensor, centre: Tensor) -> Tensor:
    """Root mean square distance of samples ``[N, B, J, 3]`` from ``centre`` ``[B, J, 3]``: ``[B, J]``."""
    return (joints - centre).square().sum(-1).mean(0).sqrt()


def typical_spread(apart: Tensor) -> Tensor:
    """Typical length ``[...]`` of deviations ``[N, ..., J, 3]``: the geometric mean over joints of their RMS.

    Joints that no deviation moves, as the root, do not count.

    >>> apart = torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.8], [0.0, 0.0, 0.0]]])
    >>> typical_spread(apart)
    tensor(2.)
    """
    rms = apart.square().sum(-1).mean(0).sqrt()
    moved = rms > 1e-9
    return (rms.where(moved, torch.ones_like(rms)).log().sum(-1) / moved.sum(-1).clamp_min(1)).exp()


def spread_as(apart: Tensor, typical: Tensor) -> Tensor:
    """Deviations ``[N, ..., J, 3]``, each hand's scaled to the typical length ``typical`` ``[...]``."""
    return apart * (typical / typical_spread(apart))[..., None, None]


def search(score: Any, names: Sequence[str], rounds: int = 2) -> dict[str, float]:
    """Weights of ``names`` that minimise ``score(weights)``, never worse than any one input alone.

    Coordinate descent over :data:`CANDIDATES` from the best of all corners and of equal weights.

    >>> search(lambda w: (w["a"] - 0.3) ** 2 + w["b"], ["a", "b"])
    {'a': 0.3, 'b': 0.0}
    """
    starts = [{n: float(n == one) for n in names} for one in names] + [dict.fromkeys(names, 1.0)]
    best = min(starts, key=score)
    least = score(best)
    for _ in range(rounds):
        for name in names:
            for weight in CANDIDATES:
                trial = {**best, name: weight}
                if not any(trial.values()):
                    continue
                value = score(trial)
                if value < least:
                    best, least = trial, value
    return best


def calibration_of(training: Mapping[str, Any]) -> Calibration | None:
    """The calibration that a run's metadata hold, or None; one of another form, as of an older cvhpe, is none."""
    found = training.get(CALIBRATION)
    if found is None or "fusions" not in found:
        return None
    widths = {names: SampleScaling(**width) for names, width in found["widths"].items()}
    return Calibration(found["fusions"], widths, found["frames"], found["hands"])


def fusion_params(calibration: Calibration | None, names: Sequence[str]) -> FusionParams:
    """How inputs are fused; a set that nobody calibrated, and a single one, with weight 1 and their own precisions."""
    known = calibration.fusions.get(together(names)) if calibration else None
    return known or FusionParams(weights=dict.fromkeys(names, 1.0), precisions={})


def uncalibrated_warning(calibration: Calibration | None, names: Sequence[str]) -> str:
    """What to tell of several inputs whose fusion nobody measured; nothing where there is no such thing to tell."""
    if len(names) < 2 or (calibration and together(names) in calibration.fusions):
        return ""
    return f"nobody measured how {' and '.join(names)} are fused best: equal weights (`cvhpe calibrate` measures it)"


MOST_IN_ALL = 4


def modality_subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The sets of inputs that are calibrated: all, or of more than :data:`MOST_IN_ALL` inputs each, each two, and all.

    >>> ["".join(one) for one in modality_subsets("abc")]
    ['a', 'b', 'c', 'ab', 'ac', 'bc', 'abc']
    """
    sizes = range(1, len(names) + 1)
    for size in sizes if len(names) <= MOST_IN_ALL else (1, 2, len(names)):
        yield from itertools.combinations(names, size)
