"""The counterpart of a cross-trained run: the same encoders, each trained alone to reconstruct its own modality.

One run whose pairs are X:X for every modality trains them all at once: its autoencoders share no weight, so
that each is what it would be by itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvhpe.config.schema import Config, checked
from cvhpe.errors import UserError
from cvhpe.io.locking import run_lock
from cvhpe.models.pairs import sources
from cvhpe.runs.run_dir import Run, load_run

if TYPE_CHECKING:
    from cvhpe.training.trainer import Reporter

FOLDER = "separate"
STEPS, PICTURE_STEPS = 2000, 300
"""FusionParams long each autoencoder is trained, unless told; those of pictures cost far more a step."""
PICTURE_LR, PICTURE_RISE = 1e-3, 30
"""The fastest rate and the fewest steps of rising to it with pictures: what a run bears that rises for an epoch, an
autoencoder that is to be done in 300 steps does not. One of fewer than 34 steps rises nearly to its end."""
LONGEST_RISE = 0.9


def separate_config(run: Run, steps: int | None) -> Config:
    """The settings of the separately trained counterpart: those of the run, but for pairs and length."""
    names = sources(run.model.pairs)
    pictures = any(run.model.modalities[n].geometry == "image" for n in names)
    settings = run.config.model_dump(mode="json") | {
        "modalities": names,
        "pairs": [f"{n}:{n}" for n in names],
        "pair_weights": {},
        "epochs": 1,
        "min_steps": steps or (PICTURE_STEPS if pictures else STEPS),
        "num_validations": 1,
        "keep_checkpoints": 1,
    }
    if pictures:
        rise = min(PICTURE_RISE / settings["min_steps"], LONGEST_RISE)
        settings |= {"lr": min(run.config.lr, PICTURE_LR), "warmup_fraction": max(run.config.warmup_fraction, rise)}
    return checked(settings, where=f"{run.path}: separate training")


def separately_trained(run: Run, steps: int | None = None, report: Reporter | None = None) -> Run:
    """The counterpart of a run, trained into the folder ``separate`` of the run unless it is there already."""
    config = separate_config(run, steps)
    folder = run.path / FOLDER
    device = next(run.model.parameters()).device
    if (folder / "model.safetensors").is_file():
        found = load_run(folder, device)
        if found.config == config:
            return found
    with alone_in(run.path):
        train_in(folder, config, report)
    return load_run(folder, device)


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Keep other processes out of a run folder: none trains there, none makes the same counterpart."""
    with ExitStack() as held:
        try:
            held.enter_context(run_lock(path))
        except UserError as error:
            raise UserError(
                f"no separately trained counterpart can be made now ({error}); wait, or name one with --unimodal-run"
            ) from None
        yield


def train_in(folder: Path, config: Config, report: Reporter | None) -> None:
    """Train ``config`` into ``folder``, which is there whole or not at all."""
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.trainer import train

    data = open_data(config)
    # No more samples than the steps can look at: an epoch would otherwise outlast them.
    most = config.min_steps * config.batch_size
    draw = np.random.default_rng(config.seed)
    data.train = [pack.subset(np.sort(draw.permutation(len(pack))[:most])) for pack in data.train]
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        train(config, data, partial, report=report)
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def given(run: Run, path: Path) -> Run:
    """A run that the user names as the separately trained counterpart; it must encode the same modalities."""
    other = load_run(path, next(run.model.parameters()).device)
    crossed = [str(p) for p in other.model.pairs if p.source != p.target]
    missing = [n for n in sources(run.model.pairs) if n not in sources(other.model.pairs)]
    if crossed:
        raise UserError(
            f"--unimodal-run {path}: cross-trained itself ({', '.join(crossed)}); train it on X:X pairs alone"
        )
    if missing:
        raise UserError(f"--unimodal-run {path}: does not encode {', '.join(missing)}, which this run does")
    for name in sources(run.model.pairs):
        mine, theirs = run.model.modalities[name].shape, other.model.modalities[name].shape
        if mine != theirs:
            raise UserError(f"--unimodal-run {path}: takes {name} of shape {theirs}, this run of {mine}")
    return other
