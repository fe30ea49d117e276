import errno
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from cvhpe.errors import UserError
from cvhpe.io import atomic
from cvhpe.runs import serialization

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]), "empty": torch.zeros(0, 3)}


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "deep" / "m.safetensors"
    serialization.save(path, TENSORS, {"layout": "hand21"})
    got = serialization.read_tensors(path)
    assert got.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=0)
    assert serialization.read_metadata(path)["layout"] == "hand21"
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_run_is_shared_as_far_as_the_umask_says(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        serialization.save(tmp_path / "m.safetensors", TENSORS, {})
    finally:
        os.umask(before)
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o777 == mode


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc to see what is mapped")
def test_loaded_tensors_do_not_map_the_file(tmp_path):
    """A resumed run keeps its moments for hours; mapped, they would keep the whole checkpoint in memory."""
    path = tmp_path / "m.safetensors"
    serialization.save(path, {"w": torch.ones(1 << 18), "v": torch.zeros(1 << 18)}, {})
    got = serialization.read_tensors(path)
    with open("/proc/self/maps") as maps:
        assert str(path) not in maps.read()
    path.write_bytes(b"")
    assert got["w"].sum() == 1 << 18


@pytest.mark.parametrize("at", [-1, -20, 4])
def test_a_changed_byte_is_noticed(tmp_path, at):
    path = tmp_path / "m.safetensors"
    serialization.save(path, TENSORS, {"n": 1})
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x41
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"m\.safetensors"):
        serialization.read_tensors(path)


@pytest.mark.parametrize("keep", [0, 7, 40, -3])
def test_a_truncated_file_is_noticed(tmp_path, keep):
    path = tmp_path / "m.safetensors"
    serialization.save(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"m\.safetensors"):
        serialization.read_tensors(path)


def test_shapes_are_read_and_compared_without_tensors(tmp_path):
    path = tmp_path / "m.safetensors"
    serialization.save(path, {"a": torch.zeros(2)}, {})
    shapes = serialization.read_shapes(path)
    serialization.check_shapes(path, shapes, {"a": (2,)})
    for expected, message in (
        ({"a": (3,)}, r"a is \[2\], the model's is \[3\]"),
        ({"a": (2,), "b": (1,)}, "lacks b"),
        ({}, "holds a, which the model lacks"),
    ):
        with pytest.raises(UserError, match=message):
            serialization.check_shapes(path, shapes, expected)


def test_other_peoples_files_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not one that cvhpe wrote"):
        serialization.read_tensors(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"cvhpe": json.dumps({"format": 99})})
    with pytest.raises(UserError, match="format 99"):
        serialization.read_tensors(path)
    path.write_bytes(b"\x80\x04 a pickle, say")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        serialization.read_tensors(path)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    serialization.save(path, TENSORS, {"n": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(serialization, "save_file", full)
    with pytest.raises(UserError, match=r"m\.safetensors: the disk is full"):
        serialization.save(path, TENSORS, {"n": 2})
    assert serialization.read_metadata(path)["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        atomic.write_text(tmp_path / "file" / "x.txt", "text")
