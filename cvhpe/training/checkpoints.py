"""Checkpoints: what a resumed run needs to end with the same bits as one that was never stopped.

A checkpoint is one file of ``checkpoints/``: weights, averaged weights, the optimizer's moments, and as metadata the
settings and the progress. Generators and the loader need no state of their own: they follow from seed and step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cvhpe.config.schema import Config
from cvhpe.errors import UserError
from cvhpe.runs import serialization
from cvhpe.runs.run_dir import check_plugins
from cvhpe.training.callbacks import TrainProgress
from cvhpe.training.state import TrainState


class CheckpointManager:
    """The checkpoints of a run folder.

    Args:
        out: the run folder.
        keep: how many of the last checkpoints are kept.
    """

    def __init__(self, out: Path, keep: int) -> None:
        self.out, self.keep = out, keep
        self.folder = out / "checkpoints"

    def paths(self) -> list[Path]:
        """The files, oldest first."""
        return sorted(self.folder.glob("step_*.safetensors"))

    def save(self, state: TrainState, metadata: Mapping[str, Any]) -> None:
        """Write a checkpoint, then remove old ones.

        Args:
            state: what to save.
            metadata: of :func:`cvhpe.runs.run_dir.model_metadata`.
        """
        path = self.folder / f"step_{state.step:08d}.safetensors"
        serialization.save(path, state.tensors(), {**metadata, "progress": asdict(state.progress)})
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)

    def restore(self, state: TrainState, note: Callable[[str], None]) -> None:
        """Load the newest usable checkpoint; nothing happens if the run was stopped before its first one.

        Args:
            state: what to load into.
            note: called with a line for each damaged checkpoint.

        Raises:
            UserError: If there are checkpoints but none is usable, or they were made with other settings.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                metadata = serialization.read_metadata(path)
                check_settings(path, metadata, state.config)
                state.load(path)
            except OtherSettingsError:
                raise
            except UserError as error:
                note(f"{error}; falling back to the checkpoint before it")
                continue
            state.progress = TrainProgress(**metadata["progress"])
            return
        if paths or not (self.out / "config.toml").exists():
            raise UserError(f"{self.out}: no usable checkpoint to resume from; start anew with another --out")
        note(f"{self.out}: was stopped before its first checkpoint; beginning at step 0")

    def prune(self) -> None:
        """Remove temporary files of a killed process."""
        for folder in (self.out, self.folder):
            for leftover in folder.glob(".*.tmp"):
                if re.search(r"\.\d+\.tmp$", leftover.name):
                    with suppress(OSError):
                        leftover.unlink()


class OtherSettingsError(UserError):
    """A checkpoint belongs to a run with other settings or plugins, as do all before it."""


def check_settings(path: Path, metadata: Mapping[str, Any], config: Config) -> None:
    """Check that a checkpoint belongs to a run.

    Args:
        path: the checkpoint, for the message.
        metadata: its metadata.
        config: settings of the run.

    Raises:
        OtherSettingsError: If it was made with other settings or other plugins.
    """
    try:
        check_plugins(path, metadata)
    except UserError as error:
        raise OtherSettingsError(str(error)) from None
    was, now = metadata.get("config", {}), config.model_dump(mode="json")
    changed = sorted(k for k in {*was, *now} if was.get(k) != now.get(k))
    if changed:
        raise OtherSettingsError(
            f"{path}: made with other settings ({', '.join(changed)}); start a run with these in another --out"
        )
