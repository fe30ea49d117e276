"""Cross-validation for calibration: hold out training hands in folds.

A network has smaller errors on the hands that it was trained on, so these cannot calibrate it. Validation hands can,
but then no longer judge it. With ``K`` folds, a network like the run's own is trained on the other folds for 1/K of
the run's steps; all of them together cost as much as the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cvhpe.config.schema import Config
from cvhpe.data.holdout import split_units
from cvhpe.data.packing.pack import Pack
from cvhpe.data.splits import DataSplits
from cvhpe.runs.run_dir import Run, load_run

Array = np.ndarray


def assign_folds(groups: Array, k: int) -> Array:
    """Assign samples to folds, whole groups at a time: the largest first, each to the fold with fewest samples.

    Args:
        groups: ``(N,)`` group of each sample.
        k: Number of folds.

    Returns:
        ``(N,)`` fold of each sample.

    Example:
        >>> assign_folds(np.array([7, 7, 7, 1, 1, 4, 9]), 2)
        array([0, 0, 0, 1, 1, 1, 0])
    """
    unique, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    fold, sizes = np.zeros(len(unique), np.int64), np.zeros(k, np.int64)
    for g in np.argsort(-counts, kind="stable"):
        fold[g] = sizes.argmin()
        sizes[fold[g]] += counts[g]
    return fold[group]


def has_enough_groups(config: Config, data: DataSplits) -> bool:
    """Whether some training set has at least as many groups as the configuration has folds, and at least two.

    Args:
        config: Of the run.
        data: Its data.

    Returns:
        Whether cross-validation is possible.
    """
    return config.calibration_num_folds > 1 and any(
        len(np.unique(split_units(pack["group"]))) >= config.calibration_num_folds for pack in data.train
    )


def run_folds(
    config: Config, data: DataSplits, steps: int, fit: Callable[[Config, DataSplits, Path], object]
) -> Iterator[tuple[Run, list[Pack]]]:
    """Train a network for each fold.

    Args:
        config: Of the run.
        data: Its data.
        steps: Number of steps of the run.
        fit: ``(config, data, folder)``, trains a run into the folder.

    Yields:
        The network of a fold and the hands that were held out from it.
    """
    k = config.calibration_num_folds
    folds = [assign_folds(split_units(pack["group"]), k) for pack in data.train]
    shortened = {
        "epochs": 1,
        "min_steps": -(-steps // k),
        "num_validations": 1,
        "keep_checkpoints": 1,
        "checkpoint_every_s": 1e9,
        "calibration_num_folds": 0,
        "ema_decay": config.ema_decay**k,  # the average covers the same share of the training
    }
    for fold in range(k):
        pairs = list(zip(data.train, folds, strict=True))
        held_out = [pack.subset(which == fold) for pack, which in pairs if (which == fold).any()]
        others = [pack.subset(which != fold) for pack, which in pairs if (which != fold).any()]
        changes = {**shortened, "seed": config.seed + 1 + fold}
        with TemporaryDirectory(prefix="cvhpe-fold-") as folder:
            fit(config.model_copy(update=changes), DataSplits(others, held_out, []), Path(folder))
            yield load_run(folder), held_out
