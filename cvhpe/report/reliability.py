"""Whether a run knows how wrong it is: the spread of posterior samples against the actual error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats

from cvhpe.figures.held import Held
from cvhpe.figures.posterior import decoded
from cvhpe.fusion import SPREAD_SAMPLES, calibration_of, spread

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


def coverage(predicted: Array, error: Array, levels: Array = LEVELS) -> Array:
    """Share of true joints inside the ball that a Gaussian of that spread says holds each share ``levels``.

    ``predicted`` is the root mean square distance in three dimensions, so ``predicted / sqrt(3)`` a dimension.

    >>> error = stats.chi(3).ppf((np.arange(1000) + 0.5) / 1000)
    >>> coverage(np.full(1000, 3**0.5), error, np.array([0.25, 0.75]))
    array([0.25, 0.75])
    """
    far = error * np.sqrt(3) / np.maximum(predicted, 1e-9)
    radii = stats.chi(3).ppf(levels)
    return (far[None] <= radii[:, None]).mean(1)


def reliability(held: Held, source: str) -> dict[str, Any] | None:
    """Spread against error of an input's predictions; None where too few hands have both.

    The spread is multiplied by the factor that the run carries from its validation hands. Of a run without
    one, every other hand is used to find it and the others to judge it, so that nothing is judged on itself.
    """
    rows = held.some(MOST_HANDS, source, "joints3d")
    if len(rows) < 8:
        return None
    posterior = held.encode(source, rows)
    centre = held.decode("joints3d", posterior.mu) * held.scale(rows)[:, None, None]
    samples = decoded(held, posterior, rows, SPREAD_SAMPLES)
    predicted = spread(torch.from_numpy(samples), torch.from_numpy(centre)).numpy()
    error = np.linalg.norm(centre - held.truth(rows), axis=-1)
    counted = held.visible(rows)
    counted[:, held.palm.root] = False  # the root is zero by definition, and so sure
    calibration = calibration_of(held.run.facts.training)
    factor = calibration.spread.get(source) if calibration else None
    carried = factor is not None
    if factor is None:
        fit = counted.copy()
        fit[1::2] = False
        counted[::2] = False
        factor = float(np.sqrt(np.mean(error[fit] ** 2) / max(np.mean(predicted[fit] ** 2), 1e-12)))
    p, e = predicted[counted].astype(np.float64), error[counted].astype(np.float64)
    raw, actual = binned(p, e)
    return {
        "source": source,
        "spread": raw,
        "calibrated": raw * factor,
        "error": actual,
        "factor": factor,
        "carried": carried,
        "hands": int(counted.any(1).sum()),
        "rank": float(stats.spearmanr(p, e).statistic) if np.ptp(p) > 0 else 0.0,
        "levels": LEVELS,
        "covered_raw": coverage(p, e),
        "covered": coverage(p * factor, e),
    }
