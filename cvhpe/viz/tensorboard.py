"""Telling a logger how a run goes: TensorBoard, with the extra ``cvhpe[tensorboard]``.

Scalars: the loss of every pair, the KL of every input, samples a second, held-out errors; pictures: what the
model makes of a few held-out hands at every validation, always the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvhpe.config.schema import Config
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError, nearest
from cvhpe.training.callbacks import Reporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cvhpe.models.vae import CrossModalVAE
    from cvhpe.runs.run_dir import Metadata

LOGGERS = ("tensorboard",)
HANDS = 5


@contextmanager
def logged(report: Reporter, name: str, path: Path, config: Config, held_out: list[Pack]) -> Iterator[Reporter]:
    """A reporter that tells the logger ``name`` as well; "" is none.

    It writes to the folder ``name`` in the run folder ``path``; ``held_out`` are the samples to show predictions of.
    """
    if not name:
        yield report
        return
    if name not in LOGGERS:
        raise UserError(f"--logger {name}: {nearest(name, LOGGERS)}")
    board = Board(path, config, held_out)
    try:
        yield replace(
            report,
            step=both(report.step, board.step),
            validation=both(report.validation, board.validation),
            model=both(report.model, board.model),
        )
    finally:
        board.close()


def both(*listeners: Callable[..., None]) -> Callable[..., None]:
    """One listener that tells all of some, in their order."""

    def tell(*arguments: Any) -> None:
        for listener in listeners:
            listener(*arguments)

    return tell


class Board:
    """TensorBoard's files of a run; nothing is written before the first record, so only the main process writes."""

    def __init__(self, path: Path, config: Config, held_out: list[Pack]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("--logger tensorboard: needs TensorBoard; pip install 'cvhpe[tensorboard]'") from None
        self.open = SummaryWriter
        self.path, self.config, self.held_out = path, config, held_out
        self.writer: Any = None

    def _at(self, step: int) -> Any:
        if self.writer is None:
            # A resumed run writes some steps again: what was written of them goes.
            self.writer = self.open(str(self.path / "tensorboard"), purge_step=step)
        return self.writer

    def step(self, record: dict[str, Any]) -> None:
        """Losses and speed of the steps since the last record."""
        writer = self._at(record["step"])
        for name, value in record.items():
            if name == "loss":
                writer.add_scalar("loss/total", value, record["step"])
            elif name.startswith("kl:"):
                writer.add_scalar(f"kl/{name[3:]}", value, record["step"])
            elif ":" in name:
                writer.add_scalar(f"loss/{name.replace(':', '-')}", value, record["step"])
        writer.add_scalar("speed/samples_per_second", record["samples_per_second"], record["step"])

    def validation(self, record: dict[str, Any]) -> None:
        """EvalSet-out errors mm, or the loss of a run that decodes no 3D joints."""
        writer = self._at(record["step"])
        for name, value in record.items():
            if isinstance(value, dict):
                writer.add_scalar(f"epe_median_mm/{name.replace(':', '-')}", value["epe_median_mm"], record["step"])
                writer.add_scalar(f"epe_mean_mm/{name.replace(':', '-')}", value["epe_mean_mm"], record["step"])
        writer.add_scalar("held_out/score", record["score"], record["step"])

    def model(self, step: int, model: CrossModalVAE, metadata: Metadata) -> None:
        """What the model makes of a few held-out hands."""
        from cvhpe.evaluation.eval_set import EvalSet, Lacking
        from cvhpe.runs.run_dir import Run
        from cvhpe.viz.figures import style
        from cvhpe.viz.figures.latent_interpolation import source_of
        from cvhpe.viz.figures.predictions import figure

        was_training = model.training
        model.eval()
        try:
            held = EvalSet(Run(self.path, model, self.config, metadata, {}), self.held_out)
            source = source_of(held)
            rows = held.some(HANDS, source, "joints3d")
            if not len(rows):
                return
            with style.plot_style():
                drawn, _ = figure(held, source, columns=HANDS, rows=rows)
                self._at(step).add_image("predictions/" + source, pixels(drawn), step, dataformats="HWC")
        except Lacking:
            return  # a run without 3D joints has scalars alone
        finally:
            model.train(was_training)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def pixels(drawn: Figure) -> np.ndarray:
    """A figure as uint8 ``(H, W, 3)``."""
    canvas: Any = drawn.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
