"""Training, readable from top to bottom: data, model, steps, validation, checkpoints.

Whatever is random in a step comes from ``(seed, step)`` alone, so that a run that was stopped and
resumed ends with the same bits as one that never was.
"""

from __future__ import annotations

import itertools
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cvhpe import checkpoint
from cvhpe.config import Config
from cvhpe.data.loader import Batches
from cvhpe.data.pack import Pack
from cvhpe.data.sources import Data
from cvhpe.errors import UserError
from cvhpe.evaluate import fit_baselines, palm_of, predict
from cvhpe.metrics import summary
from cvhpe.modality import hand_side
from cvhpe.model import Batch, CrossModalVAE
from cvhpe.pairs import sources
from cvhpe.run import Facts, build_model, card, claimed, model_fields, pair_weights, save_run
from cvhpe.views import draw_views

LOG_STEPS = 50
CHECKPOINT_SECONDS = 30.0


class Stopped(Exception):
    """A signal asked the run to end; it ends after the step under way, with everything saved."""


@dataclass
class Progress:
    """Where a run stands; all of it is in every checkpoint."""

    step: int = 0
    best: float = math.inf
    best_step: int = -1
    seconds: float = 0.0


@dataclass
class Reporter:
    """Where a run tells how it goes; the command line shows it, tests collect it."""

    note: Callable[[str], None] = lambda text: None
    step: Callable[[dict[str, Any]], None] = lambda record: None
    validation: Callable[[dict[str, Any]], None] = lambda record: None


def train(config: Config, data: Data, out: Path, *, resume: bool = False, report: Reporter | None = None) -> Progress:
    """Train a configuration on packed data into the run folder ``out``.

    Raises :class:`UserError` for what the user can mend. Ctrl-C and SIGTERM save and raise :class:`Stopped`.
    """
    with claimed(out):
        return Trainer(config, data, out, report or Reporter()).run(resume)


class Trainer:
    """The state of one run; :meth:`run` is the loop."""

    def __init__(self, config: Config, data: Data, out: Path, report: Reporter) -> None:
        self.config, self.data, self.out, self.report = config, data, out, report
        self.device = pick_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.layout = one_layout([*data.train, *data.validation])
        self.model = build_model(config, self.layout).to(self.device)
        self.model.precision = autocast_type(config.precision, self.device)
        if self.model.precision is not None:
            self.model.to(memory_format=torch.channels_last)
        self.fields = model_fields(config)
        self.batches = Batches(
            data.train, self.fields, config.batch_size, seed=config.seed, shuffle=True, workers=config.workers
        )
        if not len(self.batches):
            raise UserError("no training sample has what the modalities need; see `cvhpe data verify`")
        self.total = max(config.epochs * len(self.batches), config.least_steps)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.averaged: AveragedModel | None = None
        if config.ema:
            self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
        self.weights = pair_weights(config)
        self.palm = palm_of(self.layout)
        arrays = self.batches.arrays()
        scales = arrays["scale_mm"][arrays["has_joints3d"]]
        mean_scale = float(scales.double().mean()) if len(scales) else 1.0
        self.facts = Facts(self.layout, "palm", mean_scale)
        self.baselines = fit_baselines(arrays, self.palm)
        self.progress = Progress()
        self.stop_asked = ""

    def run(self, resume: bool) -> Progress:
        self._open(resume)
        with stopping_on_signals(self._ask_to_stop):
            self._steps()
        self._finish()
        return self.progress

    # -- the loop ------------------------------------------------------------------------------------

    def _steps(self) -> None:
        config, progress = self.config, self.progress
        every = max(1, round(self.total / config.validations))
        self.model.train()
        gathered: dict[str, list[Tensor]] = {}
        started, saved = time.monotonic() - progress.seconds, time.monotonic()
        for fields in self._batches_from(progress.step):
            losses = self._step(fields, progress.step)
            for name, value in losses.items():
                gathered.setdefault(name, []).append(value)
            progress.step += 1
            progress.seconds = time.monotonic() - started
            last = progress.step == self.total
            if progress.step % LOG_STEPS == 0 or last:
                self._log({n: float(torch.stack(v).mean()) for n, v in gathered.items()})
                gathered = {}
            if progress.step % every == 0 or last:
                self._validate()
            if time.monotonic() - saved > CHECKPOINT_SECONDS or last or self.stop_asked:
                self._save()
                saved = time.monotonic()
            if self.stop_asked:
                self._finish()
                raise Stopped(self.stop_asked)

    def _batches_from(self, step: int) -> Iterator[Mapping[str, Tensor]]:
        per_epoch = len(self.batches)
        left = self.total - step
        for epoch in itertools.count(step // per_epoch):
            for fields in self.batches.epoch(epoch, start=step % per_epoch):
                if not left:
                    return
                yield fields
                left -= 1
            step = 0

    def _step(self, fields: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """One step of the optimiser; the losses stay on the device."""
        generator = torch.Generator().manual_seed(mix(self.config.seed, step))
        batch, seeds = self._batch(fields, generator)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.lr * lr_factor(self.config, step, self.total)
        losses = self.model(batch, seeds, self.config.beta, self.weights)
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        named = {str(p): v for p, v in losses.reconstruction.items()}
        return {"loss": losses.total.detach()} | named | {f"kl:{n}": v for n, v in losses.kl.items()}

    def _batch(self, fields: Mapping[str, Tensor], generator: torch.Generator) -> tuple[Batch, Tensor]:
        """Draw one view a sample, and move what the model looks at to the device."""
        config = self.config
        view = draw_views(fields["palm"], config.augmentation, generator, self.batches.margin)
        seeds = torch.randint(2**62, (len(sources(self.model.pairs)),), generator=generator)
        side = hand_side(fields["side"] ^ view.flip.long(), known="H" in config.protocol)
        if "S" not in config.protocol and "joints3d" in fields:
            ratio = fields["scale_mm"] / self.facts.mean_scale_mm
            fields = {**fields, "joints3d": fields["joints3d"] * ratio[:, None, None]}
        stored, rows = {}, {}
        for name, modality in self.model.modalities.items():
            present = torch.stack([fields[f"has_{f}"] for f in modality.reads]).all(0)
            stored[name] = modality.stored(fields).to(self.device, non_blocking=True)
            if not bool(present.all()):
                rows[name] = present.nonzero()[:, 0].to(self.device)
        return Batch(stored, view.to(self.device), side.to(self.device), rows), seeds.to(self.device)

    # -- what surrounds it ---------------------------------------------------------------------------

    def _log(self, means: dict[str, float]) -> None:
        progress = self.progress
        record = {"step": progress.step, "epoch": progress.step / len(self.batches), **means}
        record |= {"seconds": round(progress.seconds, 3), "total_steps": self.total}
        record["samples_per_second"] = self.config.batch_size * progress.step / max(progress.seconds, 1e-9)
        self._append({"kind": "train", **record})
        self.report.step(record)
        if not math.isfinite(means["loss"]):
            self._explain_nan(means)

    def _explain_nan(self, means: Mapping[str, float]) -> None:
        worst = [n for n, v in means.items() if not math.isfinite(v) and n != "loss"]
        raise UserError(
            f"the loss is not finite within the {LOG_STEPS} steps before step {self.progress.step}: "
            f"{', '.join(worst)}; lower --set lr, or go on from the last checkpoint with --resume"
        )

    def _evaluated(self) -> CrossModalVAE:
        return self.model if self.averaged is None else self.averaged.module  # type: ignore[return-value]

    def _validate(self) -> None:
        score, record = self.score(self.data.validation)
        progress = self.progress
        record |= {"step": progress.step, "epoch": progress.step / len(self.batches), "score": score}
        self._append({"kind": "validation", **record})
        self.report.validation(record)
        if score < progress.best:
            progress.best, progress.best_step = score, progress.step
            self._save_weights()

    def score(self, packs: list[Pack]) -> tuple[float, dict[str, Any]]:
        """What validation goes by (smaller is better) and its parts: the median EPE of every input of 3D."""
        model = self._evaluated()
        record: dict[str, Any] = {}
        for source in [p.source for p in model.pairs if p.target == "joints3d"]:
            batches = Batches(packs, self.fields, 256, shuffle=False, seed=0)
            got = predict(
                model,
                batches.epoch(0),
                source,
                protocol=self.config.protocol,
                mean_scale_mm=self.facts.mean_scale_mm,
                margin=batches.margin,
                palm=self.palm,
            )
            result = summary(got.predicted, got.truth, got.visible)
            record[f"{source}:joints3d"] = {"epe_median_mm": result.epe_median, "epe_mean_mm": result.epe_mean}
        if record:
            main = next((k for k in record if not k.startswith("joints3d:")), next(iter(record)))
            return record[main]["epe_median_mm"], record
        loss = self._held_out_loss(packs)
        return loss, {"loss": loss}

    def _held_out_loss(self, packs: list[Pack]) -> float:
        """The loss on held-out samples, for a model that decodes no 3D joints."""
        model, total, count = self._evaluated(), 0.0, 0
        was_training = model.training
        model.eval()
        batches = Batches(packs, self.fields, 256, shuffle=False, seed=0)
        with torch.inference_mode():
            for i, fields in enumerate(batches.epoch(0)):
                batch, seeds = self._batch(fields, torch.Generator().manual_seed(mix(0, i)))
                losses = model(batch, seeds, self.config.beta, self.weights)
                total += float(losses.total) * len(batch.view)
                count += len(batch.view)
        model.train(was_training)
        return total / max(count, 1)

    # -- files ---------------------------------------------------------------------------------------

    def _open(self, resume: bool) -> None:
        states = checkpoints(self.out)
        if not resume:
            if states or (self.out / "model.safetensors").exists():
                raise UserError(f"{self.out}: holds a run already; go on with --resume or choose another --out")
            checkpoint.write_text(self.out / "config.toml", self.config.toml())
            return
        for path in reversed(states):
            try:
                self._restore(path)
                break
            except UserError as error:
                self.report.note(f"{error}; falling back to the checkpoint before it")
        else:
            raise UserError(f"{self.out}: no usable checkpoint to resume from")
        self._forget_after(self.progress.step)

    def _restore(self, path: Path) -> None:
        known = checkpoint.read_card(path)
        if known.get("config") != self.config.model_dump(mode="json"):
            changed = sorted(k for k, v in self.config.model_dump(mode="json").items() if known["config"].get(k) != v)
            raise UserError(f"{path}: made with other settings ({', '.join(changed)})")
        tensors = checkpoint.load(path)
        own = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        wanted = {n: tuple(t.shape) for n, t in self.model.state_dict().items()}
        checkpoint.check_shapes(path, {n: tuple(t.shape) for n, t in own.items()}, wanted)
        self.model.load_state_dict(own)
        if self.averaged is not None:
            self.averaged.load_state_dict(
                {n.removeprefix("ema."): t for n, t in tensors.items() if n.startswith("ema.")}
            )
        names = [n for n, _ in self.model.named_parameters()]
        state: dict[int, dict[str, Tensor]] = {}
        for i, name in enumerate(names):
            if f"optim.{name}.step" in tensors:
                state[i] = {k: tensors[f"optim.{name}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        self.progress = Progress(**known["progress"])

    def _save(self) -> None:
        """Write everything a resumed run needs; older checkpoints than the last few go."""
        progress = self.progress
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        if self.averaged is not None:
            tensors |= {f"ema.{n}": t for n, t in self.averaged.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optim.{name}.{key}"] = value
        path = self.out / "checkpoints" / f"step_{progress.step:08d}.safetensors"
        facts = card(self.model, self.config, self.facts)
        checkpoint.save(path, tensors, {**facts, "progress": vars(progress)})
        for old in checkpoints(self.out)[: -self.config.keep]:
            old.unlink(missing_ok=True)

    def _save_weights(self) -> None:
        progress = self.progress
        training = {"step": progress.step, "validation": progress.best, "data": list(self.config.data)}
        self.facts = Facts(self.facts.layout, self.facts.root, self.facts.mean_scale_mm, training)
        save_run(self.out, self._evaluated(), self.config, self.facts, self.baselines)

    def _finish(self) -> None:
        if not (self.out / "model.safetensors").exists():
            self._save_weights()

    def _append(self, record: Mapping[str, Any]) -> None:
        path = self.out / "metrics.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise UserError(checkpoint.write_fault(path, error)) from None

    def _forget_after(self, step: int) -> None:
        """Drop the lines of ``metrics.jsonl`` that the resumed run will write again."""
        path = self.out / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # half a line, from a kill in the middle of a write
            if record.get("step", 0) <= step:
                kept.append(line + "\n")
        checkpoint.write_text(path, "".join(kept))

    def _ask_to_stop(self, why: str) -> None:
        self.stop_asked = why


def mix(seed: int, step: int) -> int:
    """A seed of its own for every step of every run (splitmix64 of both)."""
    x = (seed * 0x9E3779B97F4A7C15 + step + 1) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (x ^ (x >> 31)) & (2**63 - 1)


def lr_factor(config: Config, step: int, total: int) -> float:
    """The learning rate at a step over the configured one: linear warm-up, then constant or half a cosine."""
    warm = config.warmup * total
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


def pick_device(name: str) -> torch.device:
    """``auto`` takes a CUDA device where there is one; ``cuda`` insists."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here; `cvhpe doctor` says why")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 for the picture networks where asked, or (``auto``) where the hardware multiplies in it."""
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        precision = "bfloat16" if native else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None


def one_layout(packs: list[Pack]) -> str:
    """The joint layout that all data of a run share."""
    found = sorted({p.layout for p in packs})
    if len(found) != 1:
        raise UserError(
            f"the data sets have different joint layouts ({', '.join(found)}); train on one layout at a time"
        )
    return found[0]


def checkpoints(out: Path) -> list[Path]:
    """The training states of a run folder, oldest first."""
    return sorted((out / "checkpoints").glob("step_*.safetensors"))


@contextmanager
def stopping_on_signals(ask: Callable[[str], None]) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a wish that the loop answers after its step; a second Ctrl-C ends at once."""
    old: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        ask("stopped by Ctrl-C" if number == signal.SIGINT else "stopped by SIGTERM")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            old[number] = signal.signal(number, handle)
    except ValueError:
        pass  # not the main thread: whoever runs us there handles signals
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
