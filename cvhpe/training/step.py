"""One training step: forward, backward, optimizer, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cvhpe.config.schema import Config
from cvhpe.models.pairs import Pair
from cvhpe.models.vae import Losses
from cvhpe.training.batching import MicroBatch, TrainBatch
from cvhpe.training.state import TrainState

Phase = Callable[[str], AbstractContextManager[Any]]
"""Names a part of a step for the profiler."""


def train_step(state: TrainState, batch: TrainBatch, phase: Phase = lambda name: nullcontext()) -> Losses:
    """One optimizer step. The losses stay on the device, and the host waits for nothing.

    Args:
        state: changed in place; its step is counted up.
        batch: of :func:`cvhpe.training.batching.make_batch`.
        phase: context manager around each part of the step, for the profiler.

    Returns:
        This process's contribution to the losses of the whole batch: the total, and the means of every pair that
        the whole batch serves, detached. The sum over processes is the losses' value; of the total, the mean is.
    """
    config, step = state.config, state.step
    for group in state.optimizer.param_groups:
        group["lr"] = config.lr * lr_factor(config, step, state.total_steps)
    low_res = step < config.low_res_fraction * state.total_steps
    state.optimizer.zero_grad(set_to_none=True)
    losses = []
    for micro_batch in batch.micro_batches:
        with _gradient_sync(state.network, enabled=micro_batch is batch.micro_batches[-1]):
            with phase("forward"):
                out = state.network(micro_batch.batch, batch.seeds, config.beta, micro_batch.weights, low_res)
            with phase("backward"):
                out.total.backward()
        losses.append(scale_by_share(out, micro_batch))
    with phase("optimizer"):
        if config.clip_norm:
            nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
        state.optimizer.step()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
    state.progress.step += 1
    return add_losses(losses)


def _gradient_sync(network: nn.Module, *, enabled: bool) -> AbstractContextManager[Any]:
    """Whether a backward pass averages gradients over processes: once a step, after the last micro-batch."""
    return nullcontext() if enabled or not isinstance(network, DistributedDataParallel) else network.no_sync()


def scale_by_share(losses: Losses, micro_batch: MicroBatch) -> Losses:
    """Detached losses whose sum over micro-batches and processes is that of the whole batch.

    Args:
        losses: means over the micro-batch.
        micro_batch: knows its share of every pair's samples.

    Returns:
        Every pair's mean times its share; 0 for pairs that only other micro-batches serve.
    """
    zero = losses.total.new_zeros(())

    def scaled(means: dict[Pair, Tensor]) -> dict[Pair, Tensor]:
        shares = micro_batch.share.items()
        return {pair: means.get(pair, zero) if s in (0.0, 1.0) else means.get(pair, zero) * s for pair, s in shares}

    return Losses(losses.total.detach(), scaled(losses.reconstruction), scaled(losses.kl))


def add_losses(losses: list[Losses]) -> Losses:
    """The sum of the losses of micro-batches, which have the same pairs."""
    total, *rest = losses
    for more in rest:
        total = Losses(
            total.total + more.total,
            {pair: value + more.reconstruction[pair] for pair, value in total.reconstruction.items()},
            {pair: value + more.kl[pair] for pair, value in total.kl.items()},
        )
    return total


def lr_factor(config: Config, step: int, total_steps: int) -> float:
    """The learning rate of a step over ``config.lr``: linear warm-up, then constant or half a cosine.

    Args:
        config: ``schedule`` and ``warmup_fraction``.
        step: number of the step, from 0.
        total_steps: steps of the whole run.

    Returns:
        A factor in (0, 1].

    Example:
        >>> config = Config(schedule="cosine", warmup_fraction=0.1)
        >>> [round(lr_factor(config, step, 100), 2) for step in (0, 10, 55, 99)]
        [0.09, 1.0, 0.5, 0.0]
    """
    warmup = config.warmup_fraction * total_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total_steps - warmup)))


def count_steps(config: Config, steps_per_epoch: int) -> int:
    """The steps of a run.

    Args:
        config: ``epochs`` and ``min_steps``.
        steps_per_epoch: batches of an epoch.

    Returns:
        The larger of the epochs' steps and ``min_steps``.
    """
    return max(config.epochs * steps_per_epoch, config.min_steps)
