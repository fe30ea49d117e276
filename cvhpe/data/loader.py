"""Batches of packed samples as tensors: no decoding, the same order on every machine, exact resume."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.packing.pack import Pack
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.skeleton import layout as find_layout
from cvhpe.plugin.sample import Array

Batch = dict[str, Tensor]

ALWAYS = ("side", "root_shift_weight", "scale_mm", "visible", "K", "crop", "depth_z", "group")
_SINGLE = ("K", "crop")  # stored in double precision, handed out as float32 like everything else


class Batches:
    """Batches ``dict[str, Tensor]`` of the samples of some packs that share a joint layout.

    packs: concatenated in their order. fields: what the modalities read. shuffle: a permutation that follows
    from ``seed`` and the epoch alone. drop_last: whether an incomplete last batch is left out; None: where it
    is shuffled and not the only one, since batch statistics of one sample are none. rank, world: this
    process takes every ``world``-th part of each batch of ``world * batch_size``. workers: threads that read
    ahead; 0 reads in the calling thread. Neither changes what comes.

    A batch holds of ``fields``: ``joints3d`` float32 ``[B, J, 3]``, ``(xyz - labelled root) / scale``; ``joints2d``
    float32 ``[B, J, 2]``, crop fractions; pictures as packed, uint8 or uint16 ``[B, S, S(, 3)]``; and ``has_<field>``
    bool ``[B]``, False where a sample lacks it: zeros stand there. A joint that is not labelled is NaN. Always:
    ``index`` int64 (number of the sample in the concatenation), ``side`` int64, ``palm``, ``scale_mm``, ``visible``,
    ``K``, ``crop``, ``depth_z``, ``root_mm`` ``[B, 3]`` (camera frame), ``group``. With several processes also
    ``together`` int64: ``index`` of all of them, rank after rank.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        fields: Sequence[str],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool | None = None,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        if not packs:
            raise UserError("no data to make batches of")
        if batch_size < 1 or not 0 <= rank < world:
            raise ValueError(f"batch size {batch_size}, rank {rank} of {world}")
        self.packs, self.fields = list(packs), tuple(fields)
        self.batch_size, self.seed, self.shuffle, self.rank, self.world = batch_size, seed, shuffle, rank, world
        self.workers = workers
        self.layout = _same("joint layouts", [p.layout for p in packs])
        self._starts = np.cumsum([0, *(len(p) for p in packs)])
        self._pictures = self._find_pictures()
        self._small = self._concatenate()
        whole = self.samples // (batch_size * world)
        self.drop_last = (shuffle and whole > 0) if drop_last is None else drop_last

    @property
    def samples(self) -> int:
        """FusionParams many samples there are in all."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        """FusionParams many batches an epoch has."""
        many, rest = divmod(self.samples, self.batch_size * self.world)
        return many + (rest >= self.world and not self.drop_last)

    def arrays(self) -> Batch:
        """Everything but the pictures, of all samples in their order."""
        return dict(self._small)

    def order(self, epoch: int) -> Array:
        """The numbers of the samples in the order of an epoch; depends on the seed and the epoch alone."""
        if not self.shuffle:
            return np.arange(self.samples)
        return np.random.default_rng([self.seed, epoch]).permutation(self.samples)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch ``start`` on: what comes is what an uninterrupted epoch had there."""
        order = self.order(epoch)
        numbers = range(start, len(self))
        if not self.workers:
            yield from (self._own(order, number) for number in numbers)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="cvhpe-loader") as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                for number in numbers:
                    ahead.append(pool.submit(self._own, order, number))
                    if len(ahead) > 2 * self.workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def batch(self, index: Array) -> Batch:
        """The samples of an index ``(B,)`` into the concatenation."""
        at = torch.from_numpy(np.ascontiguousarray(index, np.int64))
        out = {name: values[at] for name, values in self._small.items()}
        out["index"] = at
        for name in self._pictures:
            out[name] = self._gather(name, np.asarray(index))
        return out

    def _own(self, order: Array, number: int) -> Batch:
        """This process's part of a batch of all processes."""
        together = order[number * self.batch_size * self.world :][: self.batch_size * self.world]
        if self.world == 1:
            return self.batch(together)
        part = self.batch(np.array_split(together, self.world)[self.rank])
        return part | {"together": torch.from_numpy(np.ascontiguousarray(together, np.int64))}

    def _gather(self, name: str, index: Array) -> Tensor:
        dtype, shape = self._pictures[name]
        out = np.empty((len(index), *shape), dtype)
        which = np.searchsorted(self._starts, index, "right") - 1
        for number, pack in enumerate(self.packs):
            mine = np.flatnonzero(which == number)
            rows = index[mine] - self._starts[number]
            if not len(mine):
                continue
            if name not in pack:
                out[mine] = 0
            elif len(mine) == len(index):
                pack.take(name, rows, out)
            else:
                out[mine] = pack.take(name, rows)
        return torch.from_numpy(out)

    def _find_pictures(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Picture field -> type and shape of one; all packs that have it must agree."""
        found: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        margins: list[float] = []
        for name in self.fields:
            having = [p for p in self.packs if name in p.image_fields]
            if having:
                shapes = [(p.arrays[name].dtype, p.arrays[name].shape[1:]) for p in having]
                found[name] = _same(f"sizes of {name}", shapes)
                margins += [p.margin for p in having]
            elif name not in ("joints2d", "joints3d", *ALWAYS):
                raise DataError(f"no data set of this run has {name!r}: leave it out of the modalities, or add one")
        self.margin = _same("margins", margins or [self.packs[0].margin])
        return found

    def _concatenate(self) -> Batch:
        parts = [_small(pack, self.fields) for pack in self.packs]
        return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}


def visible_joints(batch: Mapping[str, Tensor]) -> Tensor:
    """Which joints count in an evaluation: those that are visible and labelled in 3D.

    Args:
        batch: fields with ``visible`` bool ``[B, J]`` and ``joints3d`` ``[B, J, 3]``, NaN where not labelled.

    Returns:
        A mask ``[B, J]``, bool.

    Example:
        >>> joints3d = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [torch.nan] * 3]])
        >>> visible_joints({"visible": torch.tensor([[True, False, True]]), "joints3d": joints3d})
        tensor([[ True, False, False]])
    """
    return batch["visible"] & batch["joints3d"].isfinite().all(-1)


def _same(what: str, values: list) -> Any:
    if any(value != values[0] for value in values):
        raise UserError(f"the data sets differ in their {what}: {', '.join(dict.fromkeys(map(str, values)))}")
    return values[0]


def _small(pack: Pack, fields: Sequence[str]) -> dict[str, Array]:
    """Everything but the pictures of one pack, as batches give it."""
    xyz, root = pack["joints3d_mm"], find_layout(pack.layout).root
    out = {name: pack[name].astype(np.float32) if name in _SINGLE else pack[name] for name in ALWAYS}
    out["root_mm"] = np.ascontiguousarray(xyz[:, root])
    if "joints3d" in fields:
        out["joints3d"] = (xyz - xyz[:, root, None]) / pack["scale_mm"][:, None, None]
    if "joints2d" in fields:
        out["joints2d"] = pack["joints2d"]
    for name in dict.fromkeys([*fields, "joints2d", "joints3d"]):
        if name in ALWAYS:  # a modality may read them too, and no sample is without
            out[f"has_{name}"] = np.ones(len(pack), bool)
            continue
        has = pack[f"has_{name}"] if f"has_{name}" in pack else np.zeros(len(pack), bool)
        out[f"has_{name}"] = has
        if name in out:
            out[name] = np.where(has[:, None, None], out[name], np.float32(0))
    return out
