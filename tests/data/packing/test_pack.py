"""Packs on disk: a pack is checked when it is opened, and subsets copy no image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.packs import write_pack

from cvhpe.data.packing.pack import FORMAT, Pack, create_npy
from cvhpe.errors import DataError


def test_fields_are_what_was_written(tmp_path: Path) -> None:
    packed = write_pack(tmp_path / "p")
    assert (len(packed), packed.layout, packed.margin, packed.image_fields) == (10, "hand21", 1.5, ("rgb",))
    assert isinstance(packed["rgb"], np.memmap)
    assert not isinstance(packed["joints2d"], np.memmap)
    assert packed["rgb"][7, 0, 0].tolist() == [7, 7, 7]
    assert "mask" not in packed
    assert packed["id"][3] == "s3"


def test_subsets_nest_and_copy_no_image(tmp_path: Path) -> None:
    packed = write_pack(tmp_path / "p").subset(np.array([8, 3, 5, 1])).subset(np.array([False, True, True, False]))
    assert packed["id"].tolist() == ["s3", "s5"]
    assert packed["rgb"][:, 0, 0, 0].tolist() == [3, 5]
    assert packed.take("rgb", np.array([1, 0]))[:, 0, 0, 0].tolist() == [5, 3]
    out = np.empty((1, 6, 6, 3), np.uint8)
    assert packed.take("rgb", np.array([1]), out) is out
    assert out[0, 0, 0, 0] == 5
    assert len(packed.limit(1)) == 1
    assert len(packed.limit(None)) == len(packed.limit(99)) == 2
    with pytest.raises(IndexError):
        packed.take("rgb", np.array([2]))
    with pytest.raises(IndexError):
        write_pack(tmp_path / "q").take("rgb", np.array([-1]))


def test_a_split_divides_no_group(tmp_path: Path) -> None:
    train, held_out = write_pack(tmp_path / "p", 40).split(0.2)
    assert len(train) + len(held_out) == 40
    assert len(held_out) == 8
    assert not set(train["group"]) & set(held_out["group"])


def test_damage_is_noticed_before_anything_is_mapped(tmp_path: Path) -> None:
    def fails(match: str, damage: object) -> None:
        folder = tmp_path / f"p{len(list(tmp_path.iterdir()))}"
        write_pack(folder)
        damage(folder)  # type: ignore[operator]
        with pytest.raises(DataError, match=match) as error:
            Pack.open(folder)
        assert "\n" not in str(error.value)

    def cut(name: str) -> object:
        return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])

    def meta(**changes: object) -> object:
        def change(folder: Path) -> None:
            meta_json = json.loads((folder / "pack.json").read_text())
            (folder / "pack.json").write_text(json.dumps(meta_json | changes))

        return change

    fails(r"rgb\.npy: 1207 bytes", cut("rgb.npy"))
    fails(r"joints2d\.npy: \d+ bytes", cut("joints2d.npy"))
    fails(r"rgb\.npy: cannot be read", lambda folder: (folder / "rgb.npy").unlink())
    fails(r"rgb\.npy: damaged", lambda folder: (folder / "rgb.npy").write_bytes(b"hello" * 300))
    fails(r"pack\.json: cannot be read", lambda folder: (folder / "pack.json").unlink())
    fails(r"pack\.json: damaged", lambda f: (f / "pack.json").write_text('{"format": 1'))
    fails(r"pack\.json: damaged", lambda f: (f / "pack.json").write_text("[]"))
    fails(rf"pack format {FORMAT + 1}", meta(format=FORMAT + 1))
    fails("damaged", meta(fields={"rgb": ["|u1"]}))
    fails(r"rgb\.npy: .* expected", meta(fields={"rgb": ["|u1", [10, 6, 6, 4]]}))
    fails(r"rgb\.npy: .* expected", meta(fields={"rgb": ["<u2", [10, 6, 6, 3]]}))
    fails(
        r"K\.npy: damaged|K\.npy: .* expected",
        lambda folder: np.save(folder / "K.npy", np.asfortranarray(np.arange(90.0).reshape(10, 3, 3))),
    )


def test_a_file_is_made_with_its_whole_space(tmp_path: Path) -> None:
    start = create_npy(tmp_path / "a.npy", np.dtype("<u2"), (3, 5))
    assert (tmp_path / "a.npy").stat().st_size == start + 30
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.zeros((3, 5), np.uint16))
