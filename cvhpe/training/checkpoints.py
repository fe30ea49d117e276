"""Training states: what a resumed run needs to end with the same bits as one that never stopped.

A state is one file of ``checkpoints/``: weights, averaged weights, the optimiser's moments, and a card with the
settings and the step. Generators and the sampler need no state of their own: both follow from seed and step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from cvhpe.config.schema import Config
from cvhpe.errors import UserError
from cvhpe.runs import serialization
from cvhpe.runs.run_dir import check_plugins

MODEL, AVERAGED, OPTIMISER = "model.", "ema.", "optim."
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainState:
    """Everything of a run that changes with its steps."""

    model: nn.Module
    optimiser: Optimizer
    averaged: AveragedModel | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All of its state by name."""
        found = {MODEL + n: t for n, t in self.model.state_dict().items()}
        if self.averaged is not None:
            found |= {AVERAGED + n: t for n, t in self.averaged.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                found[f"{OPTIMISER}{name}.{key}"] = value
        return found

    def load(self, path: Path) -> None:
        """Take over the state in a file, or leave everything as it was and raise :class:`UserError`."""
        wanted = {MODEL + n: tuple(t.shape) for n, t in self.model.state_dict().items()}
        if self.averaged is not None:
            wanted |= {AVERAGED + n: tuple(t.shape) for n, t in self.averaged.state_dict().items()}
        found = serialization.shapes(path)
        for name, parameter in self.model.named_parameters():
            if f"{OPTIMISER}{name}.step" in found:
                wanted |= {f"{OPTIMISER}{name}.{key}": tuple(parameter.shape) for key in MOMENTS}
                wanted[f"{OPTIMISER}{name}.step"] = ()
        serialization.check_shapes(path, found, wanted)
        tensors = serialization.load(path)
        self.model.load_state_dict(with_prefix(MODEL, tensors))
        if self.averaged is not None:
            self.averaged.load_state_dict(with_prefix(AVERAGED, tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for i, (name, parameter) in enumerate(self.model.named_parameters()):
            if f"{OPTIMISER}{name}.step" in tensors:
                state[i] = {key: laid_out_as(parameter, tensors[f"{OPTIMISER}{name}.{key}"]) for key in MOMENTS}
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})


def laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment in its parameter's memory format; files know none, and fused Adam walks through both as they lie.

    >>> parameter = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    >>> laid_out_as(parameter, torch.ones(2, 3, 4, 4)).stride() == parameter.stride()
    True
    """
    return torch.empty_like(parameter).copy_(moment) if moment.dim() else moment


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


class CheckpointManager:
    """The training states of a run folder, of which the last ``keep`` stay."""

    def __init__(self, out: Path, keep: int) -> None:
        self.out, self.keep = out, keep
        self.folder = out / "checkpoints"

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("step_*.safetensors"))

    def save(self, step: int, learner: TrainState, card: Mapping[str, Any]) -> None:
        """Write a state; older ones than the last few go, but only once it is safe on disk."""
        serialization.save(self.folder / f"step_{step:08d}.safetensors", learner.tensors(), card)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)

    def restore(self, learner: TrainState, config: Config, note: Callable[[str], None]) -> dict[str, Any] | None:
        """Load the newest usable state and return its card; None where the run was killed before its first one.

        A damaged state is passed over with a note. Raises :class:`UserError` where there are states but none is
        usable, or where they were made with other settings.
        """
        states = self.paths()
        for path in reversed(states):
            try:
                card = serialization.read_card(path)
                same_settings(path, card, config)
                learner.load(path)
            except OtherSettings:
                raise
            except UserError as error:
                note(f"{error}; falling back to the checkpoint before it")
                continue
            return card
        if states or not (self.out / "config.toml").exists():
            raise UserError(f"{self.out}: no usable checkpoint to resume from; start anew with another --out")
        return None

    def prune(self) -> None:
        """Remove what a killed process left of files it was writing."""
        for folder in (self.out, self.folder):
            for rest in folder.glob(".*.tmp"):
                if re.search(r"\.\d+\.tmp$", rest.name):
                    with suppress(OSError):
                        rest.unlink()


class OtherSettings(UserError):
    """A state that belongs to a run with other settings or plugins: no older one will serve better."""


def same_settings(path: Path, card: Mapping[str, Any], config: Config) -> None:
    """Refuse a state that was made with other settings or other plugins, naming them."""
    try:
        check_plugins(path, card)
    except UserError as error:
        raise OtherSettings(str(error)) from None
    was, now = card.get("config", {}), config.model_dump(mode="json")
    changed = sorted(k for k in {*was, *now} if was.get(k) != now.get(k))
    if changed:
        raise OtherSettings(
            f"{path}: made with other settings ({', '.join(changed)}); start a run with these in another --out"
        )
