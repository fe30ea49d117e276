"""Training hands held out in turn, by networks that were trained on the others for a share of the run's steps.

A network errs less on hands that it was trained on, so they cannot tell how far to trust it on others; and what
validation hands have told, they can no longer judge. So the training hands are dealt into folds, whole groups at a
time, and for each fold a network like the run's own is trained on the rest. With K folds each takes the K-th part of
the run's steps: all of them together cost what the run did.
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


def folds_of(units: Array, k: int) -> Array:
    """The fold ``(N,)`` of each of ``N`` samples: whole units, the largest first, each into the fold with least so far.

    >>> folds_of(np.array([7, 7, 7, 1, 1, 4, 9]), 2)
    array([0, 0, 0, 1, 1, 1, 0])
    """
    unique, which, many = np.unique(units, return_inverse=True, return_counts=True)
    fold, filled = np.zeros(len(unique), np.int64), np.zeros(k, np.int64)
    for unit in np.argsort(-many, kind="stable"):
        fold[unit] = filled.argmin()
        filled[fold[unit]] += many[unit]
    return fold[which]


def has_enough_groups(config: Config, data: DataSplits) -> bool:
    """Whether the training samples are as many groups as a configuration wants folds, and those at least two."""
    return config.calibration_num_folds > 1 and any(
        len(np.unique(split_units(pack["group"]))) >= config.calibration_num_folds for pack in data.train
    )


def run_folds(
    config: Config, data: DataSplits, steps: int, fit: Callable[[Config, DataSplits, Path], object]
) -> Iterator[tuple[Run, list[Pack]]]:
    """Each fold's hands, and a run that ``fit(config, data, folder)`` made of the other training hands.

    steps: those of the whole run.
    """
    k = config.calibration_num_folds
    folds = [folds_of(split_units(pack["group"]), k) for pack in data.train]
    short = {
        "epochs": 1,
        "min_steps": -(-steps // k),
        "num_validations": 1,
        "keep_checkpoints": 1,
        "checkpoint_every_s": 1e9,
    }
    short["ema_decay"] = config.ema_decay**k  # weights are averaged over the same share of a training
    for fold in range(k):
        pairs = list(zip(data.train, folds, strict=True))
        held = [pack.subset(which == fold) for pack, which in pairs if (which == fold).any()]
        others = [pack.subset(which != fold) for pack, which in pairs if (which != fold).any()]
        changes = {**short, "seed": config.seed + 1 + fold, "calibration_num_folds": 0}
        with TemporaryDirectory(prefix="cvhpe-fold-") as folder:
            fit(config.model_copy(update=changes), DataSplits(others, held, []), Path(folder))
            yield load_run(folder), held
