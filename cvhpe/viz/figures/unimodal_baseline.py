"""The unimodal run, baseline of a cross-modal run: its encoders, each trained to reconstruct its own modality.

One run with the pairs X:X trains all of them: its autoencoders share no weights.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvhpe.config.schema import Config, checked
from cvhpe.errors import UserError
from cvhpe.io.locking import run_lock
from cvhpe.models.pairs import sources
from cvhpe.runs.run_dir import Run, load_run

if TYPE_CHECKING:
    from cvhpe.training.callbacks import Reporter

FOLDER = "unimodal"
STEPS, IMAGE_STEPS = 2000, 300
"""Default number of steps, without and with image modalities, whose steps cost far more."""
IMAGE_LR, IMAGE_WARMUP_STEPS = 1e-3, 30
"""Highest learning rate and fewest warm-up steps with image modalities: short runs need a gentler start."""
MAX_WARMUP_FRACTION = 0.9


def unimodal_config(run: Run, steps: int | None = None) -> Config:
    """The settings of the unimodal run: those of the cross-modal run with other pairs and length.

    Args:
        run: The cross-modal run.
        steps: Training steps; None means :data:`STEPS`, or :data:`IMAGE_STEPS` with image modalities.

    Returns:
        The settings.
    """
    names = sources(run.model.pairs)
    has_images = any(run.model.modalities[n].geometry == "image" for n in names)
    settings = run.config.model_dump(mode="json") | {
        "modalities": names,
        "pairs": [f"{n}:{n}" for n in names],
        "pair_weights": {},
        "epochs": 1,
        "min_steps": steps or (IMAGE_STEPS if has_images else STEPS),
        "num_validations": 1,
        "keep_checkpoints": 1,
    }
    if has_images:
        warmup = min(IMAGE_WARMUP_STEPS / settings["min_steps"], MAX_WARMUP_FRACTION)
        settings |= {
            "lr": min(run.config.lr, IMAGE_LR),
            "warmup_fraction": max(run.config.warmup_fraction, warmup),
        }
    return checked(settings, where=f"{run.path}: unimodal run")


def train_unimodal(run: Run, steps: int | None = None, report: Reporter | None = None) -> Run:
    """Load the unimodal run from the folder ``unimodal`` of a run, or train it there first.

    Args:
        run: The cross-modal run.
        steps: Training steps; see :func:`unimodal_config`.
        report: Receives the progress of the training.

    Returns:
        The unimodal run.

    Raises:
        UserError: Another process writes into the run folder.
    """
    config = unimodal_config(run, steps)
    folder = run.path / FOLDER
    device = next(run.model.parameters()).device
    if (folder / "model.safetensors").is_file():
        unimodal = load_run(folder, device)
        if unimodal.config == config:
            return unimodal
    with ExitStack() as stack:
        try:
            stack.enter_context(run_lock(run.path))
        except UserError as error:
            raise UserError(
                f"the unimodal run cannot be trained now ({error}); wait, or give one with --unimodal-run"
            ) from None
        _train_into(folder, config, report)
    return load_run(folder, device)


def _train_into(folder: Path, config: Config, report: Reporter | None) -> None:
    """Train into a folder that appears when training is complete."""
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.trainer import train

    data = open_data(config)
    # an epoch with more samples than the steps see would prolong the training
    most = config.min_steps * config.batch_size
    rng = np.random.default_rng(config.seed)
    data.train = [pack.subset(np.sort(rng.permutation(len(pack))[:most])) for pack in data.train]
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        train(config, data, partial, report=report)
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_unimodal(run: Run, path: Path) -> Run:
    """Load a run that the user gives as the unimodal run, and check that it fits.

    Args:
        run: The cross-modal run.
        path: Folder of the unimodal run.

    Returns:
        The unimodal run.

    Raises:
        UserError: The run is cross-modal, lacks a modality, or has other shapes.
    """
    other = load_run(path, next(run.model.parameters()).device)
    crossed = [str(p) for p in other.model.pairs if p.source != p.target]
    missing = [n for n in sources(run.model.pairs) if n not in sources(other.model.pairs)]
    if crossed:
        raise UserError(f"--unimodal-run {path}: is cross-modal ({', '.join(crossed)}); train it with X:X pairs only")
    if missing:
        raise UserError(f"--unimodal-run {path}: does not encode {', '.join(missing)}, which this run does")
    for name in sources(run.model.pairs):
        own, theirs = run.model.modalities[name].shape, other.model.modalities[name].shape
        if own != theirs:
            raise UserError(f"--unimodal-run {path}: takes {name} of shape {theirs}, this run of {own}")
    return other
