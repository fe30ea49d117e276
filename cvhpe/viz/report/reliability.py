"""Whether a run knows how wrong it is: the spread of posterior samples against the actual error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats

from cvhpe.evaluation.eval_set import EvalSet, parts
from cvhpe.uncertainty.calibration import EncodedSet as Encoded
from cvhpe.uncertainty.calibration import drawn_of, width_of
from cvhpe.uncertainty.coverage import SAMPLES, coverage
from cvhpe.uncertainty.fusion import AS_TRAINED, SampleScaling, calibration_of, spread
from cvhpe.uncertainty.tta_disagreement import encode_tta, tta_std
from cvhpe.viz.figures.posterior import decoded

Array = np.ndarray
BINS = 10
MOST_HANDS = 600
LEVELS = np.linspace(0.05, 0.95, 19)


def binned(predicted: Array, error: Array, bins: int = BINS) -> tuple[Array, Array]:
    """Root mean squares of predicted spread and of error in bins of equally many joints, least spread first.

    >>> binned(np.array([1.0, 1.0, 4.0, 4.0]), np.array([2.0, 2.0, 3.0, 3.0]), bins=2)
    (array([1., 4.]), array([2., 3.]))
    """
    order = np.argsort(predicted, kind="stable")
    pieces = np.array_split(order, min(bins, len(order)))

    def rms(values: Array) -> Array:
        return np.array([np.sqrt(np.mean(values[p] ** 2)) for p in pieces])

    return rms(predicted), rms(error)


def reliability(held: EvalSet, source: str) -> dict[str, Any] | None:
    """Spread against error of an input's predictions; None where too few hands have both.

    Samples are drawn as they come and as wide as the run's calibration says. Of a run without one, every other hand
    is used to find it and the others to judge it, so that nothing is judged on itself.
    """
    rows = held.some(MOST_HANDS, source, "joints3d")
    if len(rows) < 8:
        return None
    calibration = calibration_of(held.run.metadata.training)
    width = calibration.width([source]) if calibration else None
    carried = width is not None
    if width is None:
        width = found_on(held, source, rows[::2])
        rows = rows[1::2]
    posterior = held.encode(source, rows)
    centre = held.joints(posterior.mu, rows)
    truth = held.truth(rows)
    counted = held.visible(rows)
    counted[:, held.palm.root] = False  # the root is zero by definition, and so sure
    error = np.linalg.norm(centre - truth, axis=-1)[counted].astype(np.float64)
    predicted, covered = [], []
    bare = torch.from_numpy(decoded(held, posterior, rows, SAMPLES))
    unsure = doubts(held, source, rows, width.turns) if width.turns else None
    for used in (AS_TRAINED, width):
        samples = used.rescale_samples(bare, torch.from_numpy(centre), doubt=unsure if used.turns else None)
        predicted.append(spread(samples, torch.from_numpy(centre)).numpy()[counted].astype(np.float64))
        covered.append(np.array(coverage(samples, torch.from_numpy(truth), torch.from_numpy(counted), LEVELS.tolist())))
    (raw, actual), (wide, wide_actual) = (binned(p, error) for p in predicted)
    return {
        "source": source,
        "spread": raw,
        "error": actual,
        "calibrated": wide,
        "calibrated_error": wide_actual,
        "scale": width.scale,
        "dof": width.dof,
        "turns": width.turns,
        "carried": carried,
        "told_by": calibration.hands if calibration and carried else "",
        "same": bool(calibration and calibration.hands == "validation" and shows_validation(held)),
        "hands": int(counted.any(1).sum()),
        "rank": ranked(predicted[1 if width.turns else 0], error),
        "levels": LEVELS,
        "covered_raw": covered[0],
        "covered": covered[1],
    }


def ranked(predicted: Array, error: Array) -> float:
    """Rank correlation of spread and error; 0 where every joint is as unsure as any other.

    >>> ranked(np.array([1.0, 2.0, 3.0]), np.array([5.0, 7.0, 6.0]))
    0.5
    """
    return float(stats.spearmanr(predicted, error).statistic) if np.ptp(predicted) > 0 else 0.0


def doubts(held: EvalSet, source: str, rows: Array, turns: int) -> torch.Tensor:
    """``[n]`` mm: how much the predictions of some rows hang on how the hand is turned."""
    found = []
    with torch.inference_mode():
        for part in parts(rows):
            seen = encode_tta(held.run, held.fields(part), [source], held.batches.margin, turns)
            found.append(tta_std(held.run, seen, [source], {}, torch.from_numpy(held.scale(part))))
    return torch.cat(found)


def shows_validation(held: EvalSet) -> bool:
    """Whether hands that the run was validated on, and so may have been calibrated on, are among those shown."""
    return any(pack.meta.split == "val" for pack in held.batches.packs)


def found_on(held: EvalSet, source: str, rows: Array) -> SampleScaling:
    """The width that some hands ask for."""
    posterior = held.encode(source, rows)
    truth, scale, visible = map(torch.from_numpy, (held.truth(rows), held.scale(rows), held.visible(rows)))
    return width_of([drawn_of(held.run, Encoded({source: posterior}, truth, scale, visible), [source], {})])
