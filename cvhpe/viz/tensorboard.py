"""The TensorBoard logger, with the extra ``cvhpe[tensorboard]``.

Scalars: losses, KL divergences, throughput and validation errors. Images: the predictions for some validation
samples after every validation, always the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvhpe.config.schema import Config
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError, nearest
from cvhpe.training.callbacks import Reporter

if TYPE_CHECKING:
    from cvhpe.models.vae import CrossModalVAE
    from cvhpe.runs.run_dir import Metadata

LOGGERS = ("tensorboard",)
HANDS = 5


@contextmanager
def add_logger(report: Reporter, name: str, path: Path, config: Config, validation: list[Pack]) -> Iterator[Reporter]:
    """Add a logger to a reporter, and close it at the end of the block.

    Args:
        report: The reporter.
        name: Name of the logger, which is also its folder in ``path``; "" adds none.
        path: The run folder.
        config: The settings of the run.
        validation: The samples whose predictions are logged.

    Yields:
        A reporter that reports to both.

    Raises:
        UserError: The logger is unknown, or its package is not installed.
    """
    if not name:
        yield report
        return
    if name not in LOGGERS:
        raise UserError(f"--logger {name}: {nearest(name, LOGGERS)}")
    board = TensorBoardLogger(path, config, validation)
    try:
        yield replace(
            report,
            step=_call_all(report.step, board.log_step),
            validation=_call_all(report.validation, board.log_validation),
            model=_call_all(report.model, board.log_predictions),
        )
    finally:
        board.close()


def _call_all(*listeners: Callable[..., None]) -> Callable[..., None]:
    """One listener that calls several in order."""

    def call(*arguments: Any) -> None:
        for listener in listeners:
            listener(*arguments)

    return call


class TensorBoardLogger:
    """Writes a run's TensorBoard files; the first record creates them, so that only rank 0 does."""

    def __init__(self, path: Path, config: Config, validation: list[Pack]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("--logger tensorboard: needs TensorBoard; pip install 'cvhpe[tensorboard]'") from None
        self.make_writer = SummaryWriter
        self.path, self.config, self.validation = path, config, validation
        self.writer: Any = None

    def _writer_at(self, step: int) -> Any:
        if self.writer is None:
            # a resumed run repeats some steps: purge what was written of them
            self.writer = self.make_writer(str(self.path / "tensorboard"), purge_step=step)
        return self.writer

    def log_step(self, record: dict[str, Any]) -> None:
        """Log losses, KL divergences and throughput since the last record."""
        step = record["step"]
        writer = self._writer_at(step)
        for name, value in record.items():
            if name == "loss":
                writer.add_scalar("loss/total", value, step)
            elif name.startswith("kl:"):
                writer.add_scalar(f"kl/{name[3:]}", value, step)
            elif ":" in name:
                writer.add_scalar(f"loss/{name.replace(':', '-')}", value, step)
        writer.add_scalar("speed/samples_per_second", record["samples_per_second"], step)

    def log_validation(self, record: dict[str, Any]) -> None:
        """Log validation errors in mm, or the loss of a run that decodes no 3D joints."""
        step = record["step"]
        writer = self._writer_at(step)
        for name, value in record.items():
            if isinstance(value, dict):
                for metric in ("epe_median_mm", "epe_mean_mm"):
                    writer.add_scalar(f"{metric}/{name.replace(':', '-')}", value[metric], step)
        writer.add_scalar("validation/score", record["score"], step)

    def log_predictions(self, step: int, model: CrossModalVAE, metadata: Metadata) -> None:
        """Log the figure of predictions; a run without 3D joints has none.

        Args:
            step: The training step.
            model: The model; its mode is restored.
            metadata: The metadata of the run so far.
        """
        from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
        from cvhpe.runs.run_dir import Run
        from cvhpe.viz.figures.axes import primary_input
        from cvhpe.viz.figures.predictions import predictions_figure
        from cvhpe.viz.style import plot_style, rasterize

        was_training = model.training
        model.eval()
        try:
            eval_set = EvalSet(Run(self.path, model, self.config, metadata, {}), self.validation)
            source = primary_input(eval_set)
            rows = eval_set.sample_rows(HANDS, source, "joints3d")
            if len(rows):
                with plot_style():
                    figure, _ = predictions_figure(eval_set, source, columns=HANDS, rows=rows)
                    writer = self._writer_at(step)
                    writer.add_image(f"predictions/{source}", rasterize(figure), step, dataformats="HWC")
        except MissingDataError:
            pass
        finally:
            model.train(was_training)

    def close(self) -> None:
        """Flush and close the files."""
        if self.writer is not None:
            self.writer.close()
