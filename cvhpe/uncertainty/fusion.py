"""The calibration that is saved with a run, and the fusion of its inputs that follows from it.

:mod:`cvhpe.models.fusion` derives the product of experts. Encoders trained with a small ``beta`` are over-confident,
each by its own factor. Calibration therefore fits, on held-out hands, precisions or weights for every set of inputs
(:mod:`cvhpe.uncertainty.fusion_fit`) and a :class:`~cvhpe.uncertainty.sample_scaling.SampleScaling`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cvhpe.models.fusion import FusionParams
from cvhpe.uncertainty.sample_scaling import SampleScaling

CALIBRATION = "calibration"
"""Key of the calibration in ``Metadata.training``."""
MAX_ALL_SUBSETS = 4
"""With more inputs than this, only single inputs, pairs and the whole set are calibrated."""


@dataclass(frozen=True)
class Calibration:
    """Parameters fitted on held-out hands for sets of inputs, by :func:`input_key`.

    Attributes:
        fusions: Set -> parameters of the fusion.
        scalings: Set -> scaling of posterior samples.
        frames: Number of hands used for fitting.
        split: Hands that the scalings of single inputs were fitted on, ``validation`` or ``training``
            (cross-validation). Sets of several inputs are always fitted on validation hands, since their fusion belongs
            to the latent space of one model.
    """

    fusions: Mapping[str, FusionParams] = field(default_factory=dict)
    scalings: Mapping[str, SampleScaling] = field(default_factory=dict)
    frames: int = 0
    split: str = "validation"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for a run's metadata."""
        return asdict(self)

    def scaling(self, names: Sequence[str]) -> SampleScaling | None:
        """The scaling of a set of inputs; None if it is not calibrated."""
        return self.scalings.get(input_key(names))

    def fitted_on(self, names: Sequence[str]) -> str:
        """The split that a set of inputs was calibrated on."""
        return self.split if len(names) == 1 else "validation"


def input_key(names: Sequence[str]) -> str:
    """A set of inputs as one name, whatever their order.

    >>> input_key(["rgb", "joints2d"])
    'joints2d,rgb'
    """
    return ",".join(sorted(names))


def calibration_of(training: Mapping[str, Any]) -> Calibration | None:
    """The calibration in a run's ``Metadata.training``, or None."""
    saved = training.get(CALIBRATION)
    if saved is None:
        return None
    scalings = {names: SampleScaling(**scaling) for names, scaling in saved["scalings"].items()}
    return Calibration(saved["fusions"], scalings, saved["frames"], saved["split"])


def fusion_params(calibration: Calibration | None, names: Sequence[str]) -> FusionParams:
    """The parameters of :func:`cvhpe.models.fusion.fuse` for a set of inputs.

    Args:
        calibration: Of the run.
        names: The inputs.

    Returns:
        The fitted parameters; weights of 1 for a single input or a set that is not calibrated.
    """
    fitted = calibration.fusions.get(input_key(names)) if calibration else None
    return fitted or FusionParams(weights=dict.fromkeys(names, 1.0), precisions={})


def uncalibrated_warning(calibration: Calibration | None, names: Sequence[str]) -> str:
    """The warning for a fusion that is not calibrated.

    Args:
        calibration: Of the run.
        names: The inputs.

    Returns:
        The warning, empty if there is no need for one.
    """
    if len(names) < 2 or (calibration and input_key(names) in calibration.fusions):
        return ""
    return f"the fusion of {' and '.join(names)} is not calibrated: equal weights (`cvhpe calibrate` fits them)"


def modality_subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The sets of inputs that are calibrated: all subsets, or of many inputs singles, pairs and the whole set.

    >>> ["".join(subset) for subset in modality_subsets("abc")]
    ['a', 'b', 'c', 'ab', 'ac', 'bc', 'abc']
    """
    sizes = range(1, len(names) + 1)
    for size in sizes if len(names) <= MAX_ALL_SUBSETS else (1, 2, len(names)):
        yield from itertools.combinations(names, size)
