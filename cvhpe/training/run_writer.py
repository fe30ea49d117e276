"""What a run in progress writes to its folder, and reports; rank 0 does it for all processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cvhpe.config.schema import Config
from cvhpe.errors import UserError
from cvhpe.io.atomic import write_text
from cvhpe.runs.run_dir import WEIGHTS, Metadata, model_metadata, save_run
from cvhpe.training.callbacks import MetricsFile, Reporter
from cvhpe.training.checkpoints import CheckpointManager
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.loss_tracker import LossTracker
from cvhpe.training.state import TrainState


class RunWriter:
    """Writes the files of a run folder.

    Args:
        out: the run folder.
        config: settings of the run.
        metadata: what its data fix.
        baselines: saved with the weights.
        steps_per_epoch: for the records.
        group: the processes of the run.
        report: callbacks of the run.
    """

    def __init__(
        self,
        out: Path,
        config: Config,
        metadata: Metadata,
        baselines: Mapping[str, Tensor],
        steps_per_epoch: int,
        group: ProcessGroup,
        report: Reporter,
    ) -> None:
        self.out, self.config, self.metadata, self.baselines = out, config, metadata, baselines
        self.steps_per_epoch, self.group, self.report = steps_per_epoch, group, report
        self.metrics = MetricsFile(out / "metrics.jsonl")
        self.checkpoints = CheckpointManager(out, config.keep_checkpoints)

    def open(self, state: TrainState, *, resume: bool) -> None:
        """Begin the run folder, or restore the newest checkpoint.

        Args:
            state: what to restore.
            resume: whether the run goes on.

        Raises:
            UserError: If there is a run already, or none to resume.
        """
        self.group.run_on_rank0(self.checkpoints.prune)
        if resume:
            self.checkpoints.restore(state, self.report.note)
            self.group.run_on_rank0(lambda: self.metrics.drop_after(state.step))
        else:
            self.group.run_on_rank0(self._begin)

    def _begin(self) -> None:
        if self.checkpoints.paths() or (self.out / WEIGHTS).exists():
            raise UserError(f"{self.out}: holds a run already; go on with --resume or choose another --out")
        write_text(self.out / "config.toml", self.config.toml())
        self.metrics.drop_after(-1)

    def log_step(self, state: TrainState, means: Mapping[str, float]) -> None:
        """Append a training record and report it.

        Args:
            state: of the run.
            means: losses since the last record.
        """
        if not self.group.is_rank0:
            return
        progress = state.progress
        record = {"step": progress.step, "epoch": progress.step / self.steps_per_epoch, **means}
        record |= {"seconds": round(progress.seconds, 3), "total_steps": state.total_steps}
        record["samples_per_second"] = self.config.batch_size * progress.step / max(progress.seconds, 1e-9)
        self.metrics.append({"kind": "train", **record})
        self.report.step(record)

    def log_validation(self, state: TrainState, score: float, record: Mapping[str, Any]) -> None:
        """Append a validation record and report it; save the weights if they are the best so far.

        Args:
            state: of the run.
            score: of the validation, lower is better.
            record: scores of every input.
        """
        epoch = state.step / self.steps_per_epoch
        record = {**record, "step": state.step, "epoch": epoch, "score": score}
        self.metrics.append({"kind": "validation", **record})
        self.report.validation(record)
        self.report.model(state.step, state.eval_model, self.metadata)
        if score < state.progress.best:
            state.progress.best, state.progress.best_step = score, state.step
            self.save_weights(state)

    def save_checkpoint(self, state: TrainState, tracker: LossTracker) -> None:
        """Write a checkpoint, unless the weights or the latest losses have diverged.

        Args:
            state: what to save.
            tracker: has the losses since the last summary.
        """
        is_finite = tracker.is_finite() and all(bool(p.isfinite().all()) for p in state.model.parameters())
        if self.group.is_rank0 and is_finite:
            self.checkpoints.save(state, model_metadata(state.model, self.config, self.metadata))

    def save_weights(self, state: TrainState) -> None:
        """Write the model that is evaluated, with its baselines."""
        progress = state.progress
        training = {"step": progress.step, "validation": progress.best, "data": list(self.config.data)}
        self.metadata = replace(self.metadata, training=training)
        save_run(self.out, state.eval_model, self.config, self.metadata, self.baselines)

    def ensure_weights(self, state: TrainState) -> None:
        """Write the weights if no validation has."""
        if self.group.is_rank0 and not (self.out / WEIGHTS).exists():
            self.save_weights(state)

    def what_is_saved(self, state: TrainState) -> str:
        """Where the best weights or the last checkpoint are, for the message that ends a diverged run."""
        if state.progress.best_step >= 0:
            return f"the best weights, of step {state.progress.best_step}, are in {self.out}"
        paths = self.checkpoints.paths()
        return f"the last good checkpoint is {paths[-1]}" if paths else "no checkpoint was saved before"
