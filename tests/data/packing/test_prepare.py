"""Packing: once, completely or not at all, the same with any number of processes, and one line for every fault."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.packs import depth_mm
from helpers.rhd_writer import SIZE, write_rhd

from cvhpe.data.datasets.rhd import Rhd
from cvhpe.data.packing.pack import FORMAT, Pack
from cvhpe.data.packing.prepare import prepare
from cvhpe.errors import DataError, UserError
from cvhpe.io import process_pool
from cvhpe.plugin.registry import registry
from cvhpe.plugin.sample import DatasetSpec, Sample

RHD = registry().dataset("rhd")
EVERYTHING = ("rgb", "depth", "mask", "joints2d", "joints3d")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rhd")
    write_rhd(folder, training=40, evaluation=3)
    return folder


def cached(tmp_path: Path) -> list[str]:
    """The files of the cache, without locks."""
    return sorted(p.name for p in (tmp_path / "cache" / "packs").glob("*") if p.suffix != ".lock")


@dataclass
class Made:
    """A data set whose samples a function makes."""

    count: int
    make: object
    layout: str = "hand21"
    root: str = "wrist"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return self.make(index)  # type: ignore[operator]


def made(count: int, make: object, **more: object) -> DatasetSpec:
    fields = more.pop("fields", ("rgb", "joints2d", "joints3d"))
    data = Made(count, make, **more)  # type: ignore[arg-type]
    return DatasetSpec(name="made", open=lambda path, split: data, layout=None, root="wrist", fields=fields)  # type: ignore[arg-type]


def plain(index: int, **more: object) -> Sample:
    rng = np.random.default_rng(index)
    xyz = rng.uniform(-50, 50, (21, 3)) + np.array([0, 0, 500])
    uv = xyz[:, :2] / xyz[:, 2:] * 300 + 100
    given = {"id": f"s{index}", "side": index % 2, "joints3d_mm": xyz, "joints2d_px": uv, "K": np.eye(3)}
    given["images"] = {"rgb": np.full((200, 200, 3), index % 251, np.uint8)}
    return Sample(**{**given, **more})  # type: ignore[arg-type]


def test_images_joints_and_crops_agree(root: Path) -> None:
    packed = prepare(RHD, root, "train", image_size=64, margin=1.5, fields=EVERYTHING, workers=1)
    assert len(packed) == 80
    assert packed["rgb"].shape == (80, 96, 96, 3)
    assert packed["depth"].dtype == np.uint16
    assert (packed.layout, packed.margin, packed.meta.native) == ("hand21", 1.5, "rhd")
    data = Rhd(root, "train")
    native = np.array([0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17])
    for i in (0, 1, 42, 79):
        sample = data[i]
        assert packed["id"][i] == sample.id
        assert packed["side"][i] == sample.side
        assert packed["root_shift_weight"][i] == 0.5
        np.testing.assert_allclose(packed["joints3d_mm"][i], sample.joints3d_mm[native], atol=1e-3)
        x, y, side = packed["crop"][i]
        np.testing.assert_allclose(packed["joints2d"][i] * side + (x, y), sample.joints2d_px[native], atol=1e-3)
        # red and green of the written images are the position of a pixel
        pixel = (packed["joints2d"][i] / 1.5 + 0.5) * 96 - 0.5
        for (u, v), (want_u, want_v) in zip(pixel, sample.joints2d_px[native], strict=True):
            colour = packed["rgb"][i, round(v), round(u)]
            inside = 2 < want_u < SIZE - 3 and 2 < want_v < SIZE - 3
            if inside:
                step = 1 + side * 1.5 / 96  # the pixel was rounded
                assert abs(colour[0] / 255 * (SIZE - 1) - want_u) < step
                assert abs(colour[1] / 255 * (SIZE - 1) - want_v) < step
                assert colour[2] == 77
        depth = depth_mm(packed["depth"][i], float(packed["depth_z"][i]), packed.meta.cube_mm)
        assert np.abs(depth[depth > 0] - packed["depth_z"][i]).max() <= 150
        assert packed["mask"][i].max() == 16
    assert all(packed[f"has_{name}"].all() for name in EVERYTHING)


def test_the_pack_does_not_depend_on_the_number_of_processes(root: Path, tmp_path: Path) -> None:
    serial = prepare(RHD, root, "train", image_size=32, fields=EVERYTHING, workers=1, cache=tmp_path / "1")
    seen: list[tuple[int, int]] = []
    parallel = prepare(
        RHD, root, "train", image_size=32, fields=EVERYTHING, workers=3, cache=tmp_path / "3",
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert serial.arrays.keys() == parallel.arrays.keys()
    for name, array in serial.arrays.items():
        np.testing.assert_array_equal(array, parallel[name])
    assert seen[-1] == (80, 80)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_processes_that_share_nothing_pack_the_same(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows, where a process starts anew instead of forking."""
    serial = prepare(RHD, root, "train", image_size=32, fields=("rgb",), workers=1, cache=tmp_path / "1")
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(process_pool.multiprocessing, "get_context", lambda kind: spawn)
    two = prepare(RHD, root, "train", image_size=32, fields=("rgb",), workers=2, cache=tmp_path / "2")
    np.testing.assert_array_equal(serial["rgb"], two["rgb"])


def test_processes_start_beside_busy_threads(root: Path, tmp_path: Path) -> None:
    """As in a training run, whose torch and BLAS threads are up when its data is packed."""
    code = (
        "import sys, threading, numpy as np, torch\n"
        "torch.set_num_threads(4)\n"
        "big = torch.rand(600, 600); (big @ big).sum(); np.ones((600, 600)) @ np.ones((600, 600))\n"
        "stop = threading.Event()\n"
        "def busy():\n    while not stop.is_set(): torch.rand(300, 300) @ torch.rand(300, 300)\n"
        "thread = threading.Thread(target=busy); thread.start()\n"
        "from cvhpe.plugin.registry import registry\nfrom cvhpe.data.packing.prepare import prepare\n"
        "packed = prepare(registry().dataset('rhd'), sys.argv[1], 'train', image_size=32, fields=('rgb',), workers=2)\n"
        "stop.set(); thread.join()\nprint(len(packed))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(root)],
        capture_output=True, text=True, timeout=200, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == "80", done.stderr


def test_a_dangling_link_in_the_folder_is_no_fault(tmp_path: Path) -> None:
    write_rhd(tmp_path, training=1, evaluation=1)
    (tmp_path / "notes.txt").symlink_to(tmp_path / "gone.txt")
    assert len(prepare(RHD, tmp_path, "train")) == 2


def test_a_second_run_reads_no_source(root: Path, tmp_path: Path) -> None:
    first = prepare(RHD, root, "test", image_size=32, fields=("rgb",))

    def never(path: object, split: str) -> object:
        raise AssertionError("opened again")

    second = prepare(replace(RHD, open=never), root, "test", image_size=32, fields=("rgb",))  # type: ignore[arg-type]
    assert first.path == second.path
    assert cached(tmp_path) == [first.path.name]


def test_what_changes_the_pack_changes_its_place(root: Path, tmp_path: Path) -> None:
    def place(**more: object) -> Path:
        return prepare(RHD, root, "test", **({"image_size": 32, "fields": ("rgb",)} | more)).path  # type: ignore[arg-type]

    places = [
        place(), place(margin=1.2), place(image_size=16), place(fields=("mask",)), place(limit=2),
        place(crop_factor=1.4), place(cube_mm=100.0),
    ]  # fmt: skip
    assert len(set(places)) == len(places)
    assert place(fields=("rgb", "absent_from_rhd")) == places[0]


def test_a_changed_source_is_packed_anew(tmp_path: Path) -> None:
    write_rhd(tmp_path, training=2, evaluation=2)
    before = prepare(RHD, tmp_path, "train")
    assert prepare(RHD, tmp_path, "train").path == before.path
    os.utime(tmp_path / "RHD_published_v2" / "training" / "anno_training.pickle", ns=(1, 1))
    assert prepare(RHD, tmp_path, "train").path != before.path


def test_a_pack_of_joints_alone(shared_data: Path) -> None:
    packed = prepare(registry().dataset("joints"), shared_data / "rhd" / "rhd_evaluation_a.npz", "train")
    assert len(packed) == 1140
    assert packed.image_fields == ()
    assert "'split' marks train" in packed.note
    assert 0.03 < packed["scale_mm"].mean() / 1000 < 0.04
    assert np.isfinite(packed["joints2d"]).all()


def test_a_modality_that_some_samples_lack(tmp_path: Path) -> None:
    def sample(i: int) -> Sample:
        return plain(i, images={}) if i % 2 else plain(i, joints3d_mm=None)

    packed = prepare(made(6, sample), None, "train", image_size=16, fields=("rgb", "joints3d"))
    np.testing.assert_array_equal(packed["has_rgb"], np.arange(6) % 2 == 0)
    np.testing.assert_array_equal(packed["has_joints3d"], np.arange(6) % 2 == 1)
    assert not packed["rgb"][1::2].any()
    assert np.isnan(packed["joints3d_mm"][::2]).all()


def test_images_that_plugins_bring(tmp_path: Path) -> None:
    def sample(i: int) -> Sample:
        return plain(i, images={"parts": np.full((200, 200), 9, np.uint16)})

    packed = prepare(made(3, sample, fields=("parts", "joints2d")), None, "train", image_size=16, fields=("parts",))
    assert packed["parts"].dtype == np.uint16
    assert packed["parts"].shape == (3, 24, 24)
    assert packed.image_fields == ("parts",)

    def turning(i: int) -> Sample:
        return plain(i, images={"parts": np.zeros((200, 200) + (3,) * (i > 1), np.uint8)})

    with pytest.raises(UserError, match="sample s2: its image 'parts' has another shape"):
        prepare(made(3, turning, fields=("parts",)), None, "test", image_size=16, fields=("parts",))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_image_is_named_and_nothing_stays(tmp_path: Path, workers: int) -> None:
    write_rhd(tmp_path, training=40, evaluation=1)
    file = tmp_path / "RHD_published_v2" / "training" / "color" / "00031.png"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"color.00031\.png") as error:
        prepare(RHD, tmp_path, "train", image_size=32, fields=("rgb",), workers=workers)
    assert "\n" not in str(error.value)
    assert cached(tmp_path) == []


def test_a_reader_that_fails_in_its_own_words(tmp_path: Path) -> None:
    def broken(i: int) -> Sample:
        if i == 2:
            raise ValueError("no\nsuch thing")
        return plain(i)

    with pytest.raises(DataError, match=r"sample 2: cannot be read \(no such thing\)"):
        prepare(made(4, broken), None, "train", image_size=16, fields=("rgb",))

    grazing = np.tile([50.0, 20.0, 1e-12], (21, 1))
    spec = replace(made(4, lambda i: plain(i, joints3d_mm=grazing, id=f"s{i}")), crop="cube")
    with pytest.raises(DataError, match="sample s0: no crop can be made of its labels"):
        prepare(spec, None, "train")

    def closed(path: object, split: str) -> object:
        raise PermissionError(13, "Permission denied", "x.mat")

    with pytest.raises(DataError, match="made: cannot be read"):
        prepare(replace(made(4, plain), open=closed), None, "train")  # type: ignore[arg-type]


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split 'trian'"):
        prepare(made(4, plain), None, "trian")
    with pytest.raises(DataError, match="holds no sample"):
        prepare(made(0, plain), None, "train")
    with pytest.raises(UserError, match="its root is 'elbow'"):
        prepare(made(4, plain, root="elbow"), None, "train")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("call", ["create", "save", "meta"])
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    from cvhpe.data.packing import prepare as module

    target = {"create": (module, "create_npy"), "save": (module.np, "save"), "meta": (module, "write_meta")}[call]
    monkeypatch.setattr(*target, full)
    with pytest.raises(DataError, match="the disk is full; free space there, or set CVHPE_CACHE"):
        prepare(made(4, plain), None, "train", image_size=16, fields=("rgb",))
    assert cached(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs limits on file sizes")
def test_a_file_that_may_not_grow(tmp_path: Path, root: Path) -> None:
    """The operating system itself refuses the space: an error, never a crash of a memory map."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from cvhpe.plugin.registry import registry\nfrom cvhpe.data.packing.prepare import prepare\n"
        "from cvhpe.errors import DataError\n"
        "rhd = registry().dataset('rhd')\n"
        "try:\n    prepare(rhd, sys.argv[1], 'train', image_size=64, fields=('rgb',), workers=2)\n"
        "except DataError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "cannot be written: File too large; set CVHPE_CACHE" in done.stdout
    assert cached(tmp_path) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set CVHPE_CACHE to one that can"):
        prepare(made(4, plain), None, "train")


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(made(128, plain), None, "train", image_size=16, fields=("rgb",), workers=1, progress=stop)
    assert cached(tmp_path) == []


def _prepare_in_process(root: Path, cache: Path, start: object, made_by: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    seen: list[int] = []
    packed = prepare(RHD, root, "train", image_size=32, fields=("rgb",), workers=1, cache=cache,
                  progress=lambda done, total: seen.append(done))  # fmt: skip
    made_by.put((len(packed), int(packed["rgb"].sum()), bool(seen)))  # type: ignore[attr-defined]


def test_two_runs_at_once_pack_once(root: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, made_by = context.Barrier(2), context.Queue()
    runs = [context.Process(target=_prepare_in_process, args=(root, tmp_path / "cache", start, made_by)) for _ in "ab"]
    for run in runs:
        run.start()
    results = [made_by.get(timeout=120) for _ in runs]
    for run in runs:
        run.join(60)
    assert results[0][:2] == results[1][:2]
    assert sorted(r[2] for r in results) == [False, True]
    assert len(cached(tmp_path)) == 1


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    first = prepare(made(4, plain), None, "train")
    rest = first.path.with_name(f"{first.path.name}.1-abcd.part")
    rest.mkdir()
    (first.path / "pack.json").unlink()  # as if somebody had begun to delete it
    again = prepare(made(4, plain), None, "train")
    assert len(again) == 4
    assert cached(tmp_path) == [first.path.name]


def test_a_pack_says_what_it_is(root: Path) -> None:
    packed = prepare(RHD, root, "test", image_size=32, fields=("rgb",))
    meta = Pack.open(packed.path).meta
    assert (meta.name, meta.split, meta.root, meta.image_size, meta.stored) == ("rhd", "test", "wrist", 32, 48)
    assert meta.source == str(root)
    assert meta.units["joints3d_mm"].startswith("mm")
    assert set(meta.versions) == {"cvhpe", "numpy"}
    assert meta.format == FORMAT
