"""Batches: the right samples, in an order that depends on the seed and the epoch only."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.packs import write_pack

from cvhpe.data.loader import Batches
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import DataError, UserError

ALL = ("rgb", "joints2d", "joints3d")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_pack(tmp_path_factory.mktemp("packs") / "p", 50)


def indices(batches: Batches, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [batch["index"].tolist() for batch in batches.epoch(epoch, start)]


def flat(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def test_a_batch_is_the_pack_normalised(packed: Pack) -> None:
    batches = Batches([packed], ALL, 8, seed=3)
    for batch in batches.epoch(1):
        i = batch["index"].numpy()
        assert batch["rgb"].dtype == torch.uint8
        np.testing.assert_array_equal(batch["rgb"][:, 0, 0, 0], i)
        np.testing.assert_array_equal(batch["side"], packed["side"][i])
        xyz = packed["joints3d_mm"][i].astype(np.float64)
        want = (xyz - xyz[:, :1]) / packed["scale_mm"][i, None, None]
        np.testing.assert_allclose(batch["joints3d"], want, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(batch["root_mm"], xyz[:, 0], rtol=1e-6)
        np.testing.assert_array_equal(batch["joints2d"], packed["joints2d"][i])
        want_types = {
            "side": (torch.int64, ()), "K": (torch.float32, (3, 3)), "crop": (torch.float32, (3,)),
            "visible": (torch.bool, (21,)), "root_shift_weight": (torch.float32, ()),
        }  # fmt: skip
        assert {n: (batch[n].dtype, batch[n].shape[1:]) for n in want_types} == want_types
        assert all(batch[f"has_{name}"].all() for name in ALL)


def test_common_fields_can_be_asked_for(packed: Pack) -> None:
    batches = Batches([packed], (*ALL, "visible", "side", "scale_mm"), 8)
    assert batches.arrays()["has_visible"].all()
    batch = next(batches.epoch(0))
    np.testing.assert_array_equal(batch["visible"], packed["visible"][batch["index"].numpy()])
    np.testing.assert_array_equal(batch["scale_mm"], packed["scale_mm"][batch["index"].numpy()])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_order_follows_from_seed_and_epoch(packed: Pack, workers: int) -> None:
    loader = Batches([packed], ALL, 8, seed=3, workers=workers)
    epoch = indices(loader)
    assert epoch == indices(Batches([packed], ("joints2d",), 8, seed=3))
    assert epoch == indices(loader)
    assert epoch != indices(loader, 1)
    assert epoch != indices(Batches([packed], ALL, 8, seed=4, workers=workers))
    assert len(epoch) == len(loader) == 6
    assert len(set(flat(epoch))) == len(flat(epoch)) == 48


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 5, 6, 7])
def test_a_resumed_epoch_goes_on_where_it_was(packed: Pack, workers: int, start: int) -> None:
    batches = Batches([packed], ALL, 8, seed=3, workers=workers)
    assert indices(batches, 2, start) == indices(batches, 2)[start:]


def test_without_shuffling_arrays_comes_in_order(packed: Pack) -> None:
    batches = Batches([packed], ALL, 8, shuffle=False)
    assert flat(indices(batches)) == list(range(50))
    assert len(batches) == 7
    assert len(Batches([packed], ALL, 8, shuffle=False, drop_last=True)) == 6
    assert len(Batches([packed], ALL, 8, drop_last=False)) == 7


def test_fewer_samples_than_a_batch_still_train(packed: Pack) -> None:
    few = Batches([packed.limit(5)], ALL, 8)
    assert len(few) == 1
    assert sorted(flat(indices(few))) == list(range(5))
    assert len(Batches([packed.limit(5)], ALL, 8, drop_last=True)) == 0


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_each_batch(packed: Pack, world: int, shuffle: bool) -> None:
    alone = indices(Batches([packed], ALL, 4 * world, seed=3, shuffle=shuffle))
    parts = [
        indices(Batches([packed], ALL, 4, seed=3, shuffle=shuffle, rank=rank, world=world)) for rank in range(world)
    ]
    assert len({len(part) for part in parts}) == 1
    together = [flat(part[i] for part in parts) for i in range(len(parts[0]))]
    assert together == alone[: len(together)]
    assert len(alone) - len(together) <= 1  # a rest of fewer samples than processes has no share for each


def test_two_data_sets_and_a_modality_that_one_lacks(tmp_path: Path) -> None:
    a = write_pack(tmp_path / "a", 6)
    b = write_pack(tmp_path / "b", 5, without=("rgb", "has_rgb"))
    batches = Batches([a.subset(np.array([4, 1, 0])), b], ALL, 4, shuffle=False)
    assert (batches.samples, len(batches)) == (8, 2)
    columns = [
        torch.cat([batch[name] for batch in batches.epoch(0)]) for name in ("rgb", "has_rgb", "joints2d", "index")
    ]
    assert columns[0][:, 0, 0, 0].tolist() == [4, 1, 0, 0, 0, 0, 0, 0]
    assert columns[1].tolist() == [True] * 3 + [False] * 5
    np.testing.assert_array_equal(columns[2], np.concatenate([a["joints2d"][[4, 1, 0]], b["joints2d"]]))
    assert columns[3].tolist() == list(range(8))


def test_samples_without_3d_are_zero_and_say_so(tmp_path: Path) -> None:
    has = np.arange(6) % 2 == 0
    xyz = np.where(has[:, None, None], np.float32(300), np.float32("nan")) * np.ones((6, 21, 3), np.float32)
    packed = write_pack(tmp_path / "p", 6, arrays={"has_joints3d": has, "joints3d_mm": xyz})
    arrays = Batches([packed], ALL, 6).arrays()
    assert arrays["has_joints3d"].tolist() == has.tolist()
    assert arrays["joints3d"].isfinite().all()
    assert not arrays["joints3d"][1::2].any()
    with pytest.raises(DataError, match="no data set of this run has 'depth'"):
        Batches([packed], ("depth",), 6)


def test_unlabelled_joints_are_nan(tmp_path: Path) -> None:
    uv = np.zeros((4, 21, 2), np.float32)
    uv[2, 7] = np.nan
    batch = next(Batches([write_pack(tmp_path / "p", 4, arrays={"joints2d": uv})], ALL, 4, shuffle=False).epoch(0))
    assert batch["joints2d"].isnan().any(-1).nonzero().tolist() == [[2, 7]]
    assert batch["has_joints2d"].all()


def test_data_sets_that_differ(tmp_path: Path, packed: Pack) -> None:
    other = write_pack(tmp_path / "a", 4, joints=16, layout="icvl16")
    with pytest.raises(UserError, match=r"differ in their joint layouts: hand21, icvl16"):
        Batches([packed, other], ALL, 2)
    with pytest.raises(UserError, match=r"differ in their sizes of rgb"):
        Batches([packed, write_pack(tmp_path / "b", 4, size=8)], ALL, 2)
    with pytest.raises(UserError, match=r"differ in their margins: 1\.5, 1\.2"):
        Batches([packed, write_pack(tmp_path / "c", 4, margin=1.2)], ALL, 2)
    assert len(Batches([packed, write_pack(tmp_path / "d", 4, size=8, margin=1.2)], ("joints2d",), 2)) == 27
    with pytest.raises(UserError, match="no data"):
        Batches([], ALL, 2)


def test_an_epoch_that_is_left_early_stops_its_threads(packed: Pack) -> None:
    before = threading.active_count()
    epoch = Batches([packed], ALL, 4, workers=2).epoch(0)
    next(epoch)
    epoch.close()
    assert threading.active_count() == before


def test_a_fault_while_reading_ahead_reaches_the_caller(packed: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches([packed], ALL, 4, workers=2)

    def fails(self: Pack, *args: object) -> None:
        raise DataError("gone")

    monkeypatch.setattr(Pack, "take", fails)
    with pytest.raises(DataError, match="gone"):
        list(batches.epoch(0))


def test_batches_do_not_share_memory(packed: Pack) -> None:
    batches = Batches([packed], ALL, 8, seed=3)
    first = [b["rgb"].clone() for b in batches.epoch(0)]
    second = list(batches.epoch(0))
    for batch in batches.epoch(0):
        batch["rgb"].zero_()
        batch["joints3d"].zero_()
    assert all(torch.equal(a, b["rgb"]) for a, b in zip(first, second, strict=True))
    assert batches.arrays()["joints3d"].any()
