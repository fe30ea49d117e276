"""Training, readable from top to bottom: data, model, steps, validation, checkpoints.

Whatever is random in a step comes from ``(seed, step)`` alone, so that a run that was stopped and
resumed ends with the same bits as one that never was.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cvhpe.config.schema import Config
from cvhpe.data.loader import Batches
from cvhpe.data.packing.pack import Pack
from cvhpe.data.splits import Data
from cvhpe.errors import UserError
from cvhpe.evaluation.baselines import fit_baselines
from cvhpe.evaluation.evaluate import palm_of
from cvhpe.io import atomic
from cvhpe.io.locking import run_lock
from cvhpe.models.vae import CrossModalVAE
from cvhpe.runs.run_dir import Metadata, Run, build_model, card, load_run, model_fields, save_run, unit_mm
from cvhpe.training.batching import BatchBuilder
from cvhpe.training.callbacks import Metrics, Progress, Reporter, Stopped
from cvhpe.training.checkpoints import CheckpointManager, TrainState
from cvhpe.training.device import autocast_type, pick_device
from cvhpe.training.diagnostics import explain, stop_at_once, stopping_on_signals
from cvhpe.training.distributed import ProcessGroup, wrap_ddp
from cvhpe.training.loss_tracker import Divergence, LossTracker
from cvhpe.training.profiling import Profile
from cvhpe.training.validation import score
from cvhpe.uncertainty.calibration import calibrate, calibrate_parts, calibrate_run
from cvhpe.uncertainty.cross_validation import has_enough_groups, run_folds

AGREE_STEPS = 10
"""FusionParams often the processes of a run ask one another whether a signal came."""
GPU_WORKERS = 4


def train(
    config: Config,
    data: Data,
    out: Path,
    *,
    resume: bool = False,
    report: Reporter | None = None,
    world: ProcessGroup | None = None,
    profile: bool = False,
) -> Progress:
    """Train a configuration on packed data into the run folder ``out``.

    world: this process among those that train together (:mod:`cvhpe.training.distributed`). profile: write where a
    few steps' time went to ``profile/`` in the run folder.

    Raises :class:`UserError` for what the user can mend. Ctrl-C and SIGTERM save and raise :class:`Stopped`.
    """
    world = world or ProcessGroup()
    with ExitStack() as held:
        world.run_on_rank0(lambda: held.enter_context(run_lock(out)))
        trainer = Trainer(config, data, out, report or Reporter(), world, profile)
        progress = trainer.run(resume)
        with stopping_on_signals(stop_at_once):
            world.run_on_rank0(lambda: calibrated(load_run(out), config, data, trainer.total, trainer.report))
        return progress


def calibrated(run: Run, config: Config, data: Data, steps: int, report: Reporter) -> Run:
    """The run with a calibration, written beside its weights: of validation hands, or of ``calibration_num_folds``."""
    if not has_enough_groups(config, data):
        if config.calibration_num_folds:
            report.note("too few groups of training hands for folds: calibrating on validation hands")
        return calibrate_run(run, calibrate(run, data.validation))

    def fit(config: Config, data: Data, out: Path) -> None:
        Trainer(config, data, out, Reporter()).run(resume=False)

    report.note(f"calibrating on training hands, held out in turn by {config.calibration_num_folds} short trainings")
    parts = list(run_folds(config, data, steps, fit))
    found = calibrate_parts(parts, "training", (run, data.train))
    fused = calibrate(run, data.validation) if found and len(found.widths) > 1 else None
    if found and fused:
        found = replace(found, fusions=fused.fusions, widths={**fused.widths, **found.widths})
    return calibrate_run(run, found)


class Trainer:
    """The state of one run; :meth:`run` is the loop."""

    def __init__(
        self,
        config: Config,
        data: Data,
        out: Path,
        report: Reporter,
        world: ProcessGroup | None = None,
        profile: bool = False,
    ) -> None:
        self.config, self.data, self.out, self.report = config, data, out, report
        self.world = world or ProcessGroup()
        self.device = pick_device(config.device, self.world.local)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.layout = one_layout([*data.train, *data.validation])
        self.model = build_model(config, self.layout).to(self.device)
        self.model.precision = autocast_type(config.precision, self.device)
        if self.model.precision is not None:
            self.model.to(memory_format=torch.channels_last)
        self.batches = self._batches()
        self.total = steps_in(config, len(self.batches))
        arrays = self.batches.arrays()
        scales = arrays["scale_mm"][arrays["has_joints3d"]]
        mean_scale = float(scales.double().mean()) if len(scales) else 1.0
        self.metadata = Metadata(self.layout, "palm", mean_scale)
        self.model.unit_mm = unit_mm(config, mean_scale)
        self.baselines = fit_baselines(arrays, palm_of(self.layout))
        self.feed = BatchBuilder(config, self.model, self.batches, self.device, pieces=config.grad_accum_steps)
        self.network = wrap_ddp(self.model, self.world, self.device, same_pairs=not self.feed.gaps)
        if config.compile != "off":
            for part in (*self.model.encoders.values(), *self.model.decoders.values()):
                part.compile(mode=config.compile)
        optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        averaged = None
        if config.ema_decay:
            averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
        self.learner = TrainState(self.model, optimiser, averaged)
        self.ledger = LossTracker(self.model.pairs, self.world, self.device)
        self.states, self.metrics = CheckpointManager(out, config.keep_checkpoints), Metrics(out / "metrics.jsonl")
        self.progress = Progress()
        self.profile = Profile(out / "profile" if profile and self.world.is_rank0 else None)
        self.signal = 0

    def _batches(self) -> Batches:
        config, size = self.config, self.world.size
        if config.batch_size % size:
            raise UserError(f"batch_size {config.batch_size} does not divide among {size} processes; change one")
        workers = config.workers or (GPU_WORKERS if self.device.type == "cuda" else 0)
        batches = Batches(
            self.data.train, model_fields(config), config.batch_size // size, seed=config.seed, shuffle=True,
            rank=self.world.rank, world=size, workers=workers,
        )  # fmt: skip
        if not len(batches):
            raise UserError("no training sample has what the modalities need; see `cvhpe data verify`")
        return batches

    def run(self, resume: bool) -> Progress:
        self._open(resume)
        with stopping_on_signals(self._ask_to_stop):
            self._steps()
        if self.world.is_rank0:
            self._finish()
        return self.progress

    # -- the loop ------------------------------------------------------------------------------------

    def _steps(self) -> None:
        config, progress, phase = self.config, self.progress, self.profile.phase
        every = max(1, round(self.total / config.num_validations))
        self.model.train()
        started, saved = time.monotonic() - progress.seconds, time.monotonic()
        if progress.validated < progress.step and (progress.step % every == 0 or progress.step == self.total):
            self._validate()  # a signal cut this one short
        batches = self._batches_from(progress.step)
        while progress.step < self.total:
            with phase("data"):
                fields = next(batches)
            self._step(fields, progress.step)
            progress.step += 1
            progress.seconds = time.monotonic() - started
            last = progress.step == self.total
            validating = last or progress.step % every == 0
            if last or validating or progress.step % config.log_every == 0:
                with phase("log"):
                    self._log()
            if validating:
                self._validate()
            stopping = self._stopping()
            if time.monotonic() - saved >= config.checkpoint_every_s or last or stopping:
                self._save()
                saved = time.monotonic()
            if stopping and not last:
                self._stop(stopping)
            told = self.profile.step()
            if told:
                self.report.note(told)

    def _batches_from(self, step: int) -> Iterator[Mapping[str, Tensor]]:
        per_epoch = len(self.batches)
        for epoch in itertools.count(step // per_epoch):
            yield from self.batches.epoch(epoch, start=step % per_epoch)
            step = 0

    def _step(self, fields: Mapping[str, Tensor], step: int) -> None:
        """One step of the optimiser; the losses stay on the device, and the host waits for nothing."""
        config, phase, optimiser = self.config, self.profile.phase, self.learner.optimiser
        with phase("feed"):
            parts, seeds = self.feed(fields, torch.Generator().manual_seed(mix(config.seed, step)))
        for group in optimiser.param_groups:
            group["lr"] = config.lr * lr_factor(config, step, self.total)
        self.model.low_res = step < config.low_res_fraction * self.total
        optimiser.zero_grad(set_to_none=True)
        done = []
        for number, part in enumerate(parts, 1):
            network = self.network
            last = number == len(parts)
            with network.no_sync() if isinstance(network, DistributedDataParallel) and not last else nullcontext():
                with phase("forward"):
                    losses = self.network(part.batch, seeds, config.beta, part.weights)
                with phase("backward"):
                    losses.total.backward()
            done.append((losses, part))
        with phase("optimiser"):
            if config.clip_norm:
                nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
            optimiser.step()
            if self.learner.averaged is not None:
                self.learner.averaged.update_parameters(self.model)
        self.ledger.add(step, done)

    # -- what surrounds it ---------------------------------------------------------------------------

    def _log(self) -> None:
        """Read the losses since the last time; one that is not finite or absurd ends the run before it is saved."""
        if not len(self.ledger):
            return
        reading, progress = self.ledger.read(), self.progress
        if reading.broken is not None:
            self._break_off(reading.broken)
        if not self.world.is_rank0:
            return
        record = {"step": progress.step, "epoch": progress.step / len(self.batches), **reading.means}
        record |= {"seconds": round(progress.seconds, 3), "total_steps": self.total}
        record["samples_per_second"] = self.config.batch_size * progress.step / max(progress.seconds, 1e-9)
        self.metrics.append({"kind": "train", **record})
        self.report.step(record)

    def _break_off(self, broken: Divergence) -> None:
        step = broken.step

        def tell() -> None:
            states = self.states.paths()
            best = f"the last good state is {states[-1]}" if states else "no state was saved before"
            if self.progress.best_step >= 0:
                best = f"the best weights, of step {self.progress.best_step}, are in {self.out}"
            batches = copy.copy(self.batches)
            batches.world, batches.rank, batches.batch_size = 1, 0, self.config.batch_size
            fields = next(batches.epoch(step // len(batches), start=step % len(batches)))
            lr = self.config.lr * lr_factor(self.config, step, self.total)
            raise UserError(explain(self.out, batches, fields, broken, lr, best))

        self.world.run_on_rank0(tell)

    def _evaluated(self) -> CrossModalVAE:
        averaged = self.learner.averaged
        return self.model if averaged is None else cast(CrossModalVAE, averaged.module)

    def _validate(self) -> None:
        """Score the weights on held-out samples, and keep the best; with several processes the first one does."""
        progress = self.progress
        if self.world.is_rank0:
            value, record = score(
                self._evaluated(), self.config, self.metadata, self.data.validation, self._until_signal
            )
            record |= {"step": progress.step, "epoch": progress.step / len(self.batches), "score": value}
            self.metrics.append({"kind": "validation", **record})
            self.report.validation(record)
            self.report.model(progress.step, self._evaluated(), self.metadata)
            if value < progress.best:
                progress.best, progress.best_step = value, progress.step
                self._save_weights()
        progress.validated = progress.step

    def _until_signal(self, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[Mapping[str, Tensor]]:
        """EvalSet-out batches, for as long as nobody asks us to stop: a scheduler does not wait for all of them."""
        for fields in batches:
            if self.signal and self.world.size == 1:
                self._save()
                self._stop(self.signal)
            yield fields

    def _ask_to_stop(self, number: int) -> None:
        self.signal = number

    def _stopping(self) -> int:
        """The signal that ends the run after this step, 0 for none; every process of a run says the same."""
        if self.world.size > 1 and self.progress.step % AGREE_STEPS:
            return 0
        return self.world.all_reduce_max(self.signal)

    def _stop(self, number: int) -> None:
        if self.world.is_rank0:
            self._finish()
        raise Stopped(number)

    # -- files ---------------------------------------------------------------------------------------

    def _open(self, resume: bool) -> None:
        """Begin a run folder, or go on from its newest usable state."""
        self.world.run_on_rank0(self.states.prune)
        if not resume:
            self.world.run_on_rank0(self._begin)
            return
        note = self.report.note
        found = self.states.restore(self.learner, self.config, note)
        if found is None:
            note(f"{self.out}: was stopped before its first checkpoint; beginning at step 0")
        else:
            self.progress = Progress(**found["progress"])
        self.world.run_on_rank0(lambda: self.metrics.forget_after(self.progress.step))

    def _begin(self) -> None:
        if self.states.paths() or (self.out / "model.safetensors").exists():
            raise UserError(f"{self.out}: holds a run already; go on with --resume or choose another --out")
        atomic.write_text(self.out / "config.toml", self.config.toml())
        self.metrics.forget_after(-1)

    def _save(self) -> None:
        """Write everything a resumed run needs; weights that are broken displace none that are not."""
        sound = self.ledger.is_finite() and all(bool(p.isfinite().all()) for p in self.model.parameters())
        if self.world.is_rank0 and sound:
            metadata = card(self.model, self.config, self.metadata)
            self.states.save(self.progress.step, self.learner, {**metadata, "progress": vars(self.progress)})

    def _save_weights(self) -> None:
        progress = self.progress
        training = {"step": progress.step, "validation": progress.best, "data": list(self.config.data)}
        self.metadata = Metadata(self.metadata.layout, self.metadata.root, self.metadata.mean_scale_mm, training)
        save_run(self.out, self._evaluated(), self.config, self.metadata, self.baselines)

    def _finish(self) -> None:
        if not (self.out / "model.safetensors").exists():
            self._save_weights()


def steps_in(config: Config, per_epoch: int) -> int:
    """The steps of a run whose epochs have so many."""
    return max(config.epochs * per_epoch, config.min_steps)


def steps_of(config: Config, data: Data) -> int:
    """The steps of a run on packed data, in one process or in many."""
    return steps_in(config, len(Batches(data.train, ("joints3d",), config.batch_size)))


def mix(seed: int, step: int) -> int:
    """A seed of its own for every step of every run (splitmix64 of both)."""
    x = (seed * 0x9E3779B97F4A7C15 + step + 1) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (x ^ (x >> 31)) & (2**63 - 1)


def lr_factor(config: Config, step: int, total: int) -> float:
    """The learning rate at a step over the configured one: linear warm-up, then constant or half a cosine."""
    warm = config.warmup_fraction * total
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


def one_layout(packs: list[Pack]) -> str:
    """The joint layout that all data of a run share."""
    found = sorted({p.layout for p in packs})
    if len(found) != 1:
        raise UserError(
            f"the data sets have different joint layouts ({', '.join(found)}); train on one layout at a time"
        )
    return found[0]
