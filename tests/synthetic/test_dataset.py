"""The synthetic data set on disk: RHD's layout, the same from any number of processes, complete or absent."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from cvhpe.data.datasets import rhd
from cvhpe.errors import DataError
from cvhpe.synthetic import dataset, generate, split_sizes
from cvhpe.synthetic.rhd_writer import encode_rhd_depth

COUNT, SIZE = 20, 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "hands"
    generate(out, COUNT, 5, size=SIZE, workers=1)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_layout(made: Path) -> None:
    names = set(contents(made))
    expected = {"synthetic.json"}
    for split, many in split_sizes(COUNT).items():
        expected.add(f"{split}/anno_{split}.pickle")
        expected |= {f"{split}/{kind}/{i:05d}.png" for kind in ("color", "depth", "mask") for i in range(many)}
    assert names == expected
    assert [p.name for p in made.parent.iterdir()] == ["hands"]


def test_the_rhd_reader_reads_it(made: Path) -> None:
    train, test = rhd.Rhd(made, "train"), rhd.Rhd(made, "test")
    assert len(test) == split_sizes(COUNT)["evaluation"]
    assert len(train) >= 0.8 * split_sizes(COUNT)["training"]
    agree = 0
    for index in range(len(train)):
        sample = train[index]
        assert sample.joints3d_mm is not None
        assert sample.joints2d_px is not None
        assert sample.visible is not None
        depth, part = sample.images["depth"], sample.images["mask"]
        assert depth.shape == part.shape == (SIZE, SIZE)
        # The hand's pixels are as far away as its joints.
        assert abs(np.median(depth[part > 0]) - np.median(sample.joints3d_mm[:, 2])) < 120
        x, y = np.round(sample.joints2d_px[sample.visible]).astype(int).T
        agree += int((part[y, x] > 0).mean() > 0.6)
    assert agree > 0.85 * len(train)


def test_the_number_of_processes_changes_nothing(made: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    generate(tmp_path / "again", COUNT, 5, size=SIZE, workers=2, progress=lambda done, of: calls.append((done, of)))
    assert contents(tmp_path / "again") == contents(made)
    assert calls[-1] == (COUNT, COUNT)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_more_frames_begin_with_the_same_ones(made: Path, tmp_path: Path) -> None:
    generate(tmp_path / "few", 4, 5, size=SIZE, workers=1)
    some, all_ = contents(tmp_path / "few"), contents(made)
    images = [name for name in some if name.endswith(".png")]
    assert len(images) == 12
    assert all(some[name] == all_[name] for name in images)


def test_no_person_is_in_both_splits() -> None:
    from cvhpe.synthetic import frames

    persons: dict[str, set[int]] = {}
    sample_hands = frames.sample_hands
    for split in split_sizes(100):
        calls: list[np.ndarray] = []

        def spy(*args, _calls=calls, **kwargs):  # type: ignore[no-untyped-def]
            _calls.append(kwargs["person"])
            return sample_hands(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frames, "sample_hands", spy)
            frames.render_frames(np.array([0, 9]), 1, split, SIZE)
        persons[split] = {int(p) for p in np.concatenate(calls)}
    assert len(persons["training"]) == 2
    assert not persons["training"] & persons["evaluation"]


def test_a_complete_data_set_is_not_made_again(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "render_frames", lambda *_: pytest.fail("rendered again"))
    generate(made, COUNT, 5, size=SIZE)
    with pytest.raises(DataError, match="other synthetic frames"):
        generate(made, COUNT, 6, size=SIZE)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(DataError, match="something else"):
        generate(tmp_path, 4, size=SIZE)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    empty = tmp_path / "empty"
    empty.mkdir()
    generate(empty, 2, size=SIZE, workers=1)
    assert json.loads((empty / "synthetic.json").read_text())["count"] == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset, "write_images", full)
    with pytest.raises(DataError, match="disk is full") as caught:
        generate(tmp_path / "out", 40, size=SIZE, workers=workers)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "out", 40, size=SIZE, workers=2, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/out"):
        generate(tmp_path / "file" / "out", 4, size=SIZE)


@pytest.mark.parametrize(("count", "size"), [(1, 64), (4, 100), (4, 32)])
def test_impossible_requests(tmp_path: Path, count: int, size: int) -> None:
    with pytest.raises(DataError):
        generate(tmp_path / "out", count, size=size)
    assert list(tmp_path.iterdir()) == []


def test_the_rhd_reader_decodes_the_depth() -> None:
    depth = np.array([[0.0, 1.0, 637.3, 4999.9, 9000.0]], np.float32)
    decoded = rhd.decode_rhd_depth(encode_rhd_depth(depth))
    assert np.abs(decoded - np.minimum(depth, 5000)).max() < 0.04
