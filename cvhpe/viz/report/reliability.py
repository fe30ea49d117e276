"""The report's reliability: standard deviation of posterior samples against error, and coverage of credible regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats

from cvhpe.evaluation.eval_set import EvalSet, MissingDataError, row_chunks
from cvhpe.uncertainty.calibration import fit_scaling, sample_deviations
from cvhpe.uncertainty.coverage import NUM_SAMPLES, coverage
from cvhpe.uncertainty.fusion import calibration_of
from cvhpe.uncertainty.fusion_fit import EncodedSet
from cvhpe.uncertainty.sample_scaling import UNSCALED, SampleScaling, sample_std
from cvhpe.uncertainty.tta_disagreement import encode_tta, tta_std
from cvhpe.viz.figures.posterior_samples import decode_samples

Array = np.ndarray
BINS = 10
MIN_HANDS, MAX_HANDS = 8, 600
LEVELS = np.linspace(0.05, 0.95, 19)


def calibration_bins(predicted: Array, error: Array, bins: int = BINS) -> tuple[Array, Array]:
    """Root mean squares of predicted standard deviations and of errors in bins of equally many joints.

    Args:
        predicted: Standard deviations ``(N,)`` mm.
        error: Errors ``(N,)`` mm.
        bins: Number of bins.

    Returns:
        Two arrays ``(bins,)`` mm, by ascending standard deviation.

    Example:
        >>> calibration_bins(np.array([1.0, 1.0, 4.0, 4.0]), np.array([2.0, 2.0, 3.0, 3.0]), bins=2)
        (array([1., 4.]), array([2., 3.]))
    """
    order = np.argsort(predicted, kind="stable")
    chunks = np.array_split(order, min(bins, len(order)))

    def rms(values: Array) -> Array:
        return np.array([np.sqrt(np.mean(values[c] ** 2)) for c in chunks])

    return rms(predicted), rms(error)


def reliability(eval_set: EvalSet, source: str) -> dict[str, Any]:
    """Compare posterior samples with the actual errors, uncalibrated and calibrated.

    A run without calibration is calibrated on every other hand and judged on the rest.

    Args:
        eval_set: The held-out samples.
        source: The input modality.

    Returns:
        JSON data of the two charts and the text below.

    Raises:
        MissingDataError: Fewer than :data:`MIN_HANDS` hands have the input and 3D joints.
    """
    rows = eval_set.sample_rows(MAX_HANDS, source, "joints3d")
    if len(rows) < MIN_HANDS:
        raise MissingDataError(f"fewer than {MIN_HANDS} held-out samples have both {source} and all 3D joints")
    calibration = calibration_of(eval_set.run.metadata.training)
    scaling = calibration.scaling([source]) if calibration else None
    has_calibration = scaling is not None
    if scaling is None:
        scaling = _fit_scaling(eval_set, source, rows[::2])
        rows = rows[1::2]
    posterior = eval_set.encode(source, rows)
    centre, truth = eval_set.decode_joints(posterior.mu, rows), eval_set.true_joints(rows)
    counted = eval_set.visible(rows)
    counted[:, eval_set.palm.root] = False  # always zero
    error = np.linalg.norm(centre - truth, axis=-1)[counted].astype(np.float64)
    centre_t, truth_t, counted_t = map(torch.from_numpy, (centre, truth, counted))
    raw = torch.from_numpy(decode_samples(eval_set, posterior, rows, NUM_SAMPLES))
    tta = _tta_disagreement(eval_set, source, rows, scaling.tta_angles) if scaling.tta_angles else None
    deviations, coverages = [], []
    for used in (UNSCALED, scaling):
        samples = used.rescale_samples(raw, centre_t, disagreement=tta if used.tta_angles else None)
        deviations.append(sample_std(samples, centre_t).numpy()[counted].astype(np.float64))
        coverages.append(np.array(coverage(samples, truth_t, counted_t, LEVELS.tolist())))
    (sd_raw, error_raw), (sd, error_bins) = (calibration_bins(d, error) for d in deviations)
    return {
        "source": source,
        "sd_raw": sd_raw,
        "error_raw": error_raw,
        "sd": sd,
        "error": error_bins,
        "scale": scaling.scale,
        "dof": scaling.dof,
        "tta_views": scaling.tta_angles,
        "has_calibration": has_calibration,
        "fitted_on": calibration.split if calibration and has_calibration else "",
        "overlaps": bool(calibration and calibration.split == "validation" and _has_validation_hands(eval_set)),
        "hands": int(counted.any(1).sum()),
        "rank_correlation": rank_correlation(deviations[1 if scaling.tta_angles else 0], error),
        "levels": LEVELS,
        "coverage_raw": coverages[0],
        "coverage": coverages[1],
    }


def rank_correlation(predicted: Array, error: Array) -> float:
    """Spearman's rank correlation of standard deviation and error; 0 if all standard deviations are equal.

    Args:
        predicted: Standard deviations ``(N,)``.
        error: Errors ``(N,)``.

    Returns:
        The correlation, in [-1, 1].

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 7.0, 6.0]))
        0.5
    """
    return float(stats.spearmanr(predicted, error).statistic) if np.ptp(predicted) > 0 else 0.0


def _tta_disagreement(eval_set: EvalSet, source: str, rows: Array, views: int) -> torch.Tensor:
    """``[n]`` mm: standard deviation of the predictions of augmented views of each hand."""
    values = []
    with torch.inference_mode():
        for chunk in row_chunks(rows):
            posteriors = encode_tta(eval_set.run, eval_set.fields(chunk), [source], eval_set.batches.margin, views)
            values.append(tta_std(eval_set.run, posteriors, [source], {}, torch.from_numpy(eval_set.scale_mm(chunk))))
    return torch.cat(values)


def _has_validation_hands(eval_set: EvalSet) -> bool:
    """Whether the shown hands include validation hands, which the run may have been calibrated on."""
    return any(pack.meta.split == "val" for pack in eval_set.batches.packs)


def _fit_scaling(eval_set: EvalSet, source: str, rows: Array) -> SampleScaling:
    """The sample scaling that calibrates some hands."""
    arrays = (eval_set.true_joints(rows), eval_set.scale_mm(rows), eval_set.visible(rows))
    truth, scale, visible = map(torch.from_numpy, arrays)
    encoded = EncodedSet({source: eval_set.encode(source, rows)}, truth, scale, visible)
    return fit_scaling([sample_deviations(eval_set.run, encoded, [source], {})])
