"""The state of a run that its steps change: weights, averaged weights, optimizer, progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cvhpe.config.schema import Config
from cvhpe.models.vae import CrossModalVAE
from cvhpe.runs import serialization
from cvhpe.runs.serialization import with_prefix
from cvhpe.training.callbacks import TrainProgress

MODEL, EMA, OPTIMIZER = "model.", "ema.", "optim."
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class TrainState:
    """The state that :func:`cvhpe.training.step.train_step` changes.

    Args:
        config: settings of the run.
        model: the weights being trained.
        network: what the forward pass calls: the model, or its wrapper for several processes.
        optimizer: of the model's parameters.
        ema: exponential moving average of the weights; None without.
        total_steps: steps of the whole run; schedules depend on it.
        progress: steps done, best score.
    """

    config: Config
    model: CrossModalVAE
    network: nn.Module
    optimizer: Optimizer
    ema: AveragedModel | None
    total_steps: int
    progress: TrainProgress = field(default_factory=TrainProgress)

    @classmethod
    def create(
        cls, config: Config, model: CrossModalVAE, total_steps: int, network: nn.Module | None = None
    ) -> TrainState:
        """The state of a run before its first step, with the optimizer that its settings ask for.

        Args:
            config: settings of the run.
            model: on its device.
            total_steps: steps of the whole run.
            network: the model's wrapper for several processes.

        Returns:
            The state; the networks are compiled if the settings ask for it.
        """
        if config.compile != "off":
            for part in (*model.encoders.values(), *model.decoders.values()):
                part.compile(mode=config.compile)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
        ema = None
        if config.ema_decay:
            ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        return cls(config, model, network or model, optimizer, ema, total_steps)

    @property
    def step(self) -> int:
        """Number of steps done."""
        return self.progress.step

    @property
    def eval_model(self) -> CrossModalVAE:
        """The model to evaluate and to save: the averaged one if there is one."""
        return self.model if self.ema is None else cast(CrossModalVAE, self.ema.module)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state by name."""
        tensors = {MODEL + n: t for n, t in self.model.state_dict().items()}
        if self.ema is not None:
            tensors |= {EMA + n: t for n, t in self.ema.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{OPTIMIZER}{name}.{key}"] = value
        return tensors

    def load(self, path: Path) -> None:
        """Load the tensors of a checkpoint.

        Args:
            path: the file. If it does not fit or is damaged, the state stays as it is and
                :class:`cvhpe.errors.UserError` is raised.
        """
        shapes = serialization.read_shapes(path)
        expected = {MODEL + n: tuple(t.shape) for n, t in self.model.state_dict().items()}
        if self.ema is not None:
            expected |= {EMA + n: tuple(t.shape) for n, t in self.ema.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            if f"{OPTIMIZER}{name}.step" in shapes:
                expected |= {f"{OPTIMIZER}{name}.{key}": tuple(parameter.shape) for key in MOMENTS}
                expected[f"{OPTIMIZER}{name}.step"] = ()
        serialization.check_shapes(path, shapes, expected)
        tensors = serialization.read_tensors(path)
        self.model.load_state_dict(with_prefix(MODEL, tensors))
        if self.ema is not None:
            self.ema.load_state_dict(with_prefix(EMA, tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for i, (name, parameter) in enumerate(self.model.named_parameters()):
            if f"{OPTIMIZER}{name}.step" in tensors:
                moments[i] = {key: strided_like(parameter, tensors[f"{OPTIMIZER}{name}.{key}"]) for key in MOMENTS}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def strided_like(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment in its parameter's memory format, which files do not store and fused Adam relies on.

    Args:
        parameter: a weight.
        moment: of the same shape, or a scalar.

    Returns:
        The moment; a scalar as it is.

    Example:
        >>> parameter = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
        >>> strided_like(parameter, torch.ones(2, 3, 4, 4)).stride() == parameter.stride()
        True
    """
    return torch.empty_like(parameter).copy_(moment) if moment.dim() else moment
