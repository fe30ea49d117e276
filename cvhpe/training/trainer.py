"""The training loop: batch, step, log, validate, checkpoint, stop.

All randomness of a step comes from ``(seed, step)``, so that a run that was stopped and resumed ends with the same
bits as one that was never stopped.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import torch

from cvhpe.config.schema import Config
from cvhpe.data.loader import Batches
from cvhpe.data.splits import DataSplits
from cvhpe.errors import UserError
from cvhpe.evaluation.baselines import fit_baselines
from cvhpe.evaluation.evaluate import palm_of
from cvhpe.io.locking import run_lock
from cvhpe.plugin.contract import Fields
from cvhpe.runs.run_dir import Metadata, build_model, model_fields
from cvhpe.training.batching import BatchContext, make_batch, step_generator
from cvhpe.training.callbacks import Reporter, TrainProgress
from cvhpe.training.device import autocast_type, pick_device
from cvhpe.training.diagnostics import explain_divergence
from cvhpe.training.distributed import ProcessGroup, wrap_ddp
from cvhpe.training.loss_tracker import Divergence, LossTracker
from cvhpe.training.profiling import StepProfiler
from cvhpe.training.run_writer import RunWriter
from cvhpe.training.signals import Stopped, StopRequest, stop_requests
from cvhpe.training.state import TrainState
from cvhpe.training.step import count_steps, lr_factor, train_step
from cvhpe.training.validation import validate

AGREE_EVERY = 10
"""Steps between two times that the processes of a run agree on whether to stop."""
GPU_WORKERS = 4


def train(
    config: Config,
    data: DataSplits,
    out: Path,
    *,
    resume: bool = False,
    report: Reporter | None = None,
    group: ProcessGroup | None = None,
    profile: bool = False,
) -> TrainProgress:
    """Train a model into a run folder.

    Args:
        config: settings of the run.
        data: packed samples; its test samples are not used.
        out: the run folder.
        resume: go on from the newest checkpoint of the folder.
        report: callbacks.
        group: this process among those that train together (:func:`cvhpe.training.distributed.process_group`).
        profile: write where the time of a few steps goes to ``profile/`` in the run folder.

    Returns:
        Steps done, and the best validation score.

    Raises:
        UserError: If the folder, the settings or the data do not fit, or the run diverges.
        Stopped: After Ctrl-C or SIGTERM, once everything is saved.
    """
    report, group = report or Reporter(), group or ProcessGroup()
    with ExitStack() as stack:
        group.run_on_rank0(lambda: stack.enter_context(run_lock(out)))
        if config.threads:
            torch.set_num_threads(config.threads)
        device = pick_device(config.device, group.local_rank)
        loader = train_loader(config, data, device, group)
        metadata = data_metadata(loader)
        baselines = fit_baselines(loader.arrays(), palm_of(loader.layout))
        state, context = build_state(config, loader, device, group)
        writer = RunWriter(out, config, metadata, baselines, len(loader), group, report)
        tracker = LossTracker(state.model.pairs, group)
        profiler = StepProfiler(out / "profile" if profile and group.is_rank0 else None)
        writer.open(state, resume=resume)

        progress, phase = state.progress, profiler.phase
        started, saved = time.monotonic() - progress.seconds, time.monotonic()
        batches = batches_from(loader, progress.step)
        request = stack.enter_context(stop_requests())
        if progress.validated < progress.step and validation_due(state):  # a signal interrupted this validation
            validate_state(state, data, writer, tracker, request)
        while progress.step < state.total_steps:
            with phase("data"):
                fields = next(batches)
            with phase("batch"):
                batch = make_batch(fields, step_generator(config.seed, progress.step), context)
            losses = train_step(state, batch, phase)
            tracker.add(progress.step - 1, losses)
            progress.seconds = time.monotonic() - started

            if validation_due(state) or progress.step % config.log_every == 0:
                with phase("log"):
                    summary = tracker.read()
                    if summary.divergence is not None:
                        end_diverged_run(summary.divergence, state, loader, writer)
                    writer.log_step(state, summary.means)
            if validation_due(state):
                validate_state(state, data, writer, tracker, request)

            signal, is_last = agree_to_stop(request, progress.step, group), progress.step == state.total_steps
            if time.monotonic() - saved >= config.checkpoint_every_s or is_last or signal:
                writer.save_checkpoint(state, tracker)
                saved = time.monotonic()
            if signal and not is_last:
                stop(signal, state, writer)
            profiler.step(report.note)
        writer.ensure_weights(state)
        return progress


def train_loader(config: Config, data: DataSplits, device: torch.device, group: ProcessGroup) -> Batches:
    """The loader of a run's training samples.

    Args:
        config: batch size, seed and workers.
        data: packed samples.
        device: of the run; loader threads are worth it beside a GPU.
        group: the processes that share each batch.

    Returns:
        The loader of this process.

    Raises:
        UserError: If the batch cannot be shared, or there is no sample to train on.
    """
    if config.batch_size % group.size:
        raise UserError(f"batch_size {config.batch_size} does not divide among {group.size} processes; change one")
    loader = Batches(
        data.train,
        model_fields(config),
        config.batch_size // group.size,
        seed=config.seed,
        shuffle=True,
        rank=group.rank,
        world=group.size,
        workers=config.workers or (GPU_WORKERS if device.type == "cuda" else 0),
    )
    if not len(loader):
        raise UserError("no training sample has what the modalities need; see `cvhpe data verify`")
    return loader


def data_metadata(loader: Batches) -> Metadata:
    """What the training samples fix about the model: the layout, and the mean scale bone of hands with 3D joints."""
    arrays = loader.arrays()
    scales = arrays["scale_mm"][arrays["has_joints3d"]]
    return Metadata(loader.layout, "palm", float(scales.double().mean()) if len(scales) else 1.0)


def build_state(
    config: Config, loader: Batches, device: torch.device, group: ProcessGroup | None = None
) -> tuple[TrainState, BatchContext]:
    """A run before its first step.

    Args:
        config: settings of the run.
        loader: gives the training samples.
        device: of the model.
        group: the processes of the run.

    Returns:
        What :func:`train_step` changes, and what :func:`make_batch` needs.
    """
    precision = autocast_type(config.precision, device)
    metadata = data_metadata(loader)
    model = build_model(config, metadata.layout, mean_scale_mm=metadata.mean_scale_mm, precision=precision).to(device)
    if precision is not None:
        model.to(memory_format=torch.channels_last)
    context = BatchContext(config, model, loader, device)
    network = wrap_ddp(model, group or ProcessGroup(), device, same_pairs=not context.present)
    return TrainState.create(config, model, count_steps(config, len(loader)), network), context


def batches_from(loader: Batches, step: int) -> Iterator[Fields]:
    """The samples of all steps from one on, without end.

    Args:
        loader: gives the batches of an epoch.
        step: number of the first step.

    Yields:
        This process's samples of a step.
    """
    per_epoch = len(loader)
    for epoch in itertools.count(step // per_epoch):
        yield from loader.epoch(epoch, start=step % per_epoch)
        step = 0


def validation_due(state: TrainState) -> bool:
    """Whether the run is validated after the step that was done last."""
    every = max(1, round(state.total_steps / state.config.num_validations))
    return state.step % every == 0 or state.step == state.total_steps


def validate_state(
    state: TrainState, data: DataSplits, writer: RunWriter, tracker: LossTracker, request: StopRequest
) -> None:
    """Validate the model and keep its weights if they are the best so far; rank 0 does it.

    Args:
        state: of the run.
        data: its validation samples are scored.
        writer: of the run folder.
        tracker: of the run.
        request: a signal interrupts the validation, since a scheduler does not wait for all of it.
    """

    def until_stopped(batches: Iterable[Fields]) -> Iterator[Fields]:
        for fields in batches:
            if request.number and writer.group.size == 1:
                writer.save_checkpoint(state, tracker)
                stop(request.number, state, writer)
            yield fields

    if writer.group.is_rank0:
        score, record = validate(state.eval_model, state.config, writer.metadata, data.validation, until_stopped)
        writer.log_validation(state, score, record)
    state.progress.validated = state.step


def agree_to_stop(request: StopRequest, step: int, group: ProcessGroup) -> int:
    """The signal to stop for, the same on all processes, which agree every few steps.

    Args:
        request: of this process.
        step: steps done.
        group: the processes of the run.

    Returns:
        The signal's number, or 0.
    """
    if group.size > 1 and step % AGREE_EVERY:
        return 0
    return group.all_reduce_max(request.number)


def stop(signal: int, state: TrainState, writer: RunWriter) -> NoReturn:
    """End a run after a signal, once its weights are saved.

    Args:
        signal: number of the signal.
        state: of the run.
        writer: of the run folder.

    Raises:
        Stopped: Always.
    """
    writer.ensure_weights(state)
    raise Stopped(signal)


def end_diverged_run(divergence: Divergence, state: TrainState, loader: Batches, writer: RunWriter) -> None:
    """End a run that diverged, with the batch of the step for inspection.

    Args:
        divergence: the step and its loss.
        state: of the run.
        loader: gives its batches.
        writer: of the run folder.

    Raises:
        UserError: Always, on all processes.
    """

    def explain() -> None:
        whole = copy.copy(loader)  # the batch of all processes
        whole.world, whole.rank, whole.batch_size = 1, 0, state.config.batch_size
        fields = next(batches_from(whole, divergence.step))
        lr = state.config.lr * lr_factor(state.config, divergence.step, state.total_steps)
        raise UserError(
            f"{explain_divergence(divergence, fields, whole, writer.out, lr)}; {writer.what_is_saved(state)}"
        )

    writer.group.run_on_rank0(explain)
