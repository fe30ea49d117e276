"""From the samples of the loader to the batch of a training step: views, noise keys, micro-batches, the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from cvhpe.augmentation.pose_swap import PoseSwap
from cvhpe.augmentation.views import add_keypoint_noise, sample_views
from cvhpe.config.schema import Config
from cvhpe.data.loader import Batches
from cvhpe.models.pairs import Pair, sources
from cvhpe.models.vae import Batch, CrossModalVAE, Rows, shared_rows
from cvhpe.plugin.contract import Fields, View, hand_side
from cvhpe.runs.run_dir import pair_weights


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass: this process's part of a batch, or a piece of it.

    Args:
        batch: input of the model.
        weights: pair -> weight in the loss, so that gradients that are summed over micro-batches and averaged over
            processes are those of the whole batch.
        share: pair -> samples of this micro-batch over those of the whole batch that serve it. A pair that is left
            out has no sample in the whole batch.
    """

    batch: Batch
    weights: Mapping[Pair, float]
    share: Mapping[Pair, float]


@dataclass(frozen=True)
class TrainBatch:
    """The input of :func:`cvhpe.training.step.train_step`.

    Args:
        micro_batches: at least one.
        seeds: ``[inputs]`` int64, a noise key for each input modality, the same for all micro-batches and processes.
    """

    micro_batches: list[MicroBatch]
    seeds: Tensor


class BatchContext:
    """What batches of a run have in common.

    Args:
        config: augmentation, protocol, pair weights and number of micro-batches.
        model: its modalities and pairs.
        loader: gives the fields; it knows this process's rank.
        device: where batches go.

    Attributes:
        present: modality -> ``[N]`` bool, the samples of the data that have it; left out if all have it.
        root_shift_weight: ``[N]``.
    """

    def __init__(self, config: Config, model: CrossModalVAE, loader: Batches, device: torch.device) -> None:
        self.config, self.model, self.loader, self.device = config, model, loader, device
        self.pair_weights = pair_weights(config)
        self.pose_swap = PoseSwap.from_config(config, model.modalities, loader)
        arrays = loader.arrays()
        self.root_shift_weight = arrays["root_shift_weight"]
        present = {
            name: torch.stack([arrays[f"has_{field}"] for field in modality.reads]).all(0)
            for name, modality in model.modalities.items()
        }
        self.present: dict[str, Tensor] = {name: has for name, has in present.items() if not bool(has.all())}


def make_batch(fields: Fields, generator: Generator, context: BatchContext) -> TrainBatch:
    """The batch of a training step.

    Views and noise are sampled for the batch of all processes, and pairs are weighted by it, so that the result does
    not depend on how the batch is split. All that needs values is done before the batch goes to the device: the host
    never waits for it.

    Args:
        fields: this process's samples, as :class:`cvhpe.data.loader.Batches` gives them.
        generator: the only source of randomness, on the CPU.
        context: what batches of the run have in common.

    Returns:
        The micro-batches, on the device.
    """
    config, loader = context.config, context.loader
    index = fields.get("global_index", fields["index"])  # of all processes
    view = sample_views(context.root_shift_weight[index], config.augmentation, generator, loader.margin)
    seeds = torch.randint(2**62, (len(sources(context.model.pairs)),), generator=generator)
    present = {name: has[index] for name, has in context.present.items()}
    num_own = len(fields["index"])
    start = split_start(len(index), loader.rank, loader.world)
    fields = {name: values for name, values in fields.items() if name != "global_index"}
    fields = _augment_fields(fields, generator, context, len(index), start)
    num_micro = min(config.grad_accum_steps, num_own)
    micro_batches = []
    for i in range(num_micro):
        first, end = split_start(num_own, i, num_micro), split_start(num_own, i + 1, num_micro)
        part = {name: values[first:end] for name, values in fields.items()}
        rows = torch.arange(start + first, start + end)
        part_view = view if len(rows) == len(index) else view.select(rows)
        micro_batches.append(_micro_batch(part, part_view, present, start + first, len(index), context))
    return TrainBatch(micro_batches, _to(seeds, context.device))


def _augment_fields(fields: Fields, generator: Generator, context: BatchContext, total: int, start: int) -> Fields:
    """Pose swap and keypoint noise of the samples from ``start`` on of a batch of ``total``."""
    if context.pose_swap is not None:
        fields = context.pose_swap(fields, generator, total, start)
    noise_px = context.config.augmentation.keypoint_noise_px
    if noise_px:
        joints2d = add_keypoint_noise(fields["joints2d"], fields["crop"], noise_px, generator, total, start)
        fields = {**fields, "joints2d": joints2d}
    return fields


def _micro_batch(
    fields: Fields, view: View, present: Mapping[str, Tensor], start: int, total: int, context: BatchContext
) -> MicroBatch:
    """The samples from ``start`` on of a batch of ``total``, of all of which ``present`` tells what they have."""
    model, device, n = context.model, context.device, len(fields["index"])
    own = {name: has[start : start + n] for name, has in present.items()}
    rows = {name: has.nonzero()[:, 0] for name, has in own.items() if not bool(has.all())}
    share, weights, pair_rows = {}, {}, {}
    for pair in model.pairs:
        count, total_count = n, total
        with_gaps = [name for name in pair if name in present]
        if with_gaps:
            count, total_count = (
                int(torch.stack([has[name] for name in with_gaps]).all(0).sum()) for has in (own, present)
            )
            a, b = shared_rows(rows.get(pair.source), rows.get(pair.target), n)
            pair_rows[pair] = _rows_to(a, device), _rows_to(b, device)
        if total_count:
            share[pair] = count / total_count
            weights[pair] = context.pair_weights.get(pair, 1.0) * count * context.loader.world / total_count
    side = hand_side(fields["side"] ^ view.flip.long(), known="H" in context.config.protocol)
    batch = Batch(
        stored={name: _to(model.stored(name, fields), device) for name in model.modalities},
        view=view.map(lambda _, tensor: _to(tensor, device)),
        side=_to(side, device),
        rows={name: _to(r, device) for name, r in rows.items()},
        pair_rows=pair_rows,
        offset={name: int(present[name][:start].sum()) if name in present else start for name in model.modalities},
    )
    return MicroBatch(batch, weights, share)


def _to(x: Tensor, device: torch.device) -> Tensor:
    return x if device.type == "cpu" else x.pin_memory().to(device, non_blocking=True)


def _rows_to(rows: Rows, device: torch.device) -> Rows:
    return None if rows is None else _to(rows, device)


def split_start(n: int, part: int, num_parts: int) -> int:
    """Where a part begins if ``n`` items are split into consecutive parts as evenly as possible, longer parts first.

    Args:
        n: number of items.
        part: number of the part.
        num_parts: number of parts.

    Returns:
        Index of its first item.

    Example:
        >>> [split_start(7, part, 3) for part in range(4)]
        [0, 3, 5, 7]
    """
    size, rest = divmod(n, num_parts)
    return part * size + min(part, rest)


def step_generator(seed: int, step: int) -> Generator:
    """The generator of a step, seeded by a hash (splitmix64) of the run's seed and the step.

    Args:
        seed: of the run.
        step: number of the step.

    Returns:
        A generator on the CPU.
    """
    return Generator().manual_seed(mix_seed(seed, step))


def mix_seed(seed: int, step: int) -> int:
    """A 63-bit hash (splitmix64) of a seed and a step.

    Args:
        seed: of a run.
        step: number of a step.

    Returns:
        The hash.
    """
    x = (seed * 0x9E3779B97F4A7C15 + step + 1) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (x ^ (x >> 31)) & (2**63 - 1)
