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

COMMON_FIELDS = ("side", "root_shift_weight", "scale_mm", "visible", "K", "crop", "depth_z", "group")
_TO_FLOAT32 = ("K", "crop")  # stored in double precision


class Batches:
    """Batches ``dict[str, Tensor]`` of the samples of some packs that share a joint layout.

    A batch holds of ``fields``: ``joints3d`` float32 ``[B, J, 3]``, ``(xyz - labelled root) / scale``; ``joints2d``
    float32 ``[B, J, 2]``, crop fractions; images as packed, uint8 or uint16 ``[B, S, S(, 3)]``; and ``has_<field>``
    bool ``[B]``, False if a sample lacks the field, which is zeros then. A joint that is not labelled is NaN. Always:
    ``index`` int64 (number of the sample in the concatenation), ``side`` int64, ``root_shift_weight``, ``scale_mm``,
    ``visible``, ``K``, ``crop``, ``depth_z``, ``root_mm`` ``[B, 3]`` (camera frame), ``group``. With several processes
    also ``global_index`` int64: ``index`` of all of them, rank after rank.

    Args:
        packs: concatenated in their order.
        fields: what the modalities read.
        batch_size: samples of a batch of this process.
        seed: of the order of the samples.
        shuffle: whether the order of an epoch is a permutation, a function of ``seed`` and the epoch only.
        drop_last: whether an incomplete last batch is left out; by default if ``shuffle`` and it is not the only one,
            since one sample has no batch statistics.
        rank: of this process, which takes its part of each batch of ``world * batch_size``.
        world: number of processes.
        workers: threads that read ahead; 0 reads in the calling thread. The batches are the same.

    Raises:
        UserError: If there is no pack, or the packs differ in layout, margin or image sizes.
        DataError: If no pack has a field.
        ValueError: If a size is wrong.
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
        self._image_types = self._check_images()
        self._arrays = self._concatenate()
        full_batches = self.samples // (batch_size * world)
        self.drop_last = (shuffle and full_batches > 0) if drop_last is None else drop_last

    @property
    def samples(self) -> int:
        """The number of samples of all packs."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        full_batches, rest = divmod(self.samples, self.batch_size * self.world)
        return full_batches + (rest >= self.world and not self.drop_last)

    def arrays(self) -> dict[str, Tensor]:
        """Every field but the images, of all samples in their order."""
        return dict(self._arrays)

    def order(self, epoch: int) -> Array:
        """The numbers of the samples in the order of an epoch, a function of the seed and the epoch only."""
        if not self.shuffle:
            return np.arange(self.samples)
        return np.random.default_rng([self.seed, epoch]).permutation(self.samples)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of an epoch.

        Args:
            epoch: its number.
            start: the first batch to give; it and those after it are the same as in an epoch from 0.

        Yields:
            The batches.
        """
        order = self.order(epoch)
        numbers = range(start, len(self))
        if not self.workers:
            yield from (self._rank_batch(order, number) for number in numbers)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="cvhpe-loader") as pool:
            ahead: deque[Future[dict[str, Tensor]]] = deque()
            try:
                for number in numbers:
                    ahead.append(pool.submit(self._rank_batch, order, number))
                    if len(ahead) > 2 * self.workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def batch(self, index: Array) -> dict[str, Tensor]:
        """The samples of an index ``(B,)`` into the concatenation."""
        at = torch.from_numpy(np.ascontiguousarray(index, np.int64))
        out = {name: values[at] for name, values in self._arrays.items()}
        out["index"] = at
        for name in self._image_types:
            out[name] = self._gather(name, np.asarray(index))
        return out

    def _rank_batch(self, order: Array, number: int) -> dict[str, Tensor]:
        """This rank's part of a batch of all processes."""
        index = order[number * self.batch_size * self.world :][: self.batch_size * self.world]
        if self.world == 1:
            return self.batch(index)
        part = self.batch(np.array_split(index, self.world)[self.rank])
        return part | {"global_index": torch.from_numpy(np.ascontiguousarray(index, np.int64))}

    def _gather(self, name: str, index: Array) -> Tensor:
        dtype, shape = self._image_types[name]
        out = np.empty((len(index), *shape), dtype)
        pack_of = np.searchsorted(self._starts, index, "right") - 1
        for number, pack in enumerate(self.packs):
            at = np.flatnonzero(pack_of == number)
            rows = index[at] - self._starts[number]
            if not len(at):
                continue
            if name not in pack:
                out[at] = 0
            elif len(at) == len(index):
                pack.take(name, rows, out)
            else:
                out[at] = pack.take(name, rows)
        return torch.from_numpy(out)

    def _check_images(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Image field -> type and shape of one, which must be the same in all packs that have it."""
        types: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        margins: list[float] = []
        for name in self.fields:
            packs = [p for p in self.packs if name in p.image_fields]
            if packs:
                types[name] = _same(
                    f"sizes of {name}", [(p.arrays[name].dtype, p.arrays[name].shape[1:]) for p in packs]
                )
                margins += [p.margin for p in packs]
            elif name not in ("joints2d", "joints3d", *COMMON_FIELDS):
                raise DataError(f"no data set of this run has {name!r}: leave it out of the modalities, or add one")
        self.margin = _same("margins", margins or [self.packs[0].margin])
        return types

    def _concatenate(self) -> dict[str, Tensor]:
        parts = [_arrays_of(pack, self.fields) for pack in self.packs]
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


def _same(what: str, values: list[Any]) -> Any:
    if any(value != values[0] for value in values):
        raise UserError(f"the data sets differ in their {what}: {', '.join(dict.fromkeys(map(str, values)))}")
    return values[0]


def _arrays_of(pack: Pack, fields: Sequence[str]) -> dict[str, Array]:
    """Every field of a pack but its images, as batches have it."""
    xyz, root = pack["joints3d_mm"], find_layout(pack.layout).root
    out = {name: pack[name].astype(np.float32) if name in _TO_FLOAT32 else pack[name] for name in COMMON_FIELDS}
    out["root_mm"] = np.ascontiguousarray(xyz[:, root])
    if "joints3d" in fields:
        out["joints3d"] = (xyz - xyz[:, root, None]) / pack["scale_mm"][:, None, None]
    if "joints2d" in fields:
        out["joints2d"] = pack["joints2d"]
    for name in dict.fromkeys([*fields, "joints2d", "joints3d"]):
        if name in COMMON_FIELDS:  # every sample has them
            out[f"has_{name}"] = np.ones(len(pack), bool)
            continue
        has = pack[f"has_{name}"] if f"has_{name}" in pack else np.zeros(len(pack), bool)
        out[f"has_{name}"] = has
        if name in out:
            out[name] = np.where(has[:, None, None], out[name], np.float32(0))
    return out
