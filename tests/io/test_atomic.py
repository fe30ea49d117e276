"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from cvhpe.errors import UserError
from cvhpe.io.atomic import atomic_file, make_folder_once, write_text


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old")

    def write_half(error: BaseException) -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        write_half(KeyboardInterrupt())
    with pytest.raises(UserError, match=r"a\.txt: the disk is full; free some space"):
        write_half(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(partial: Path) -> None:
        calls.append(partial)
        (partial / "last").write_text("")

    for _ in range(2):
        assert make_folder_once(tmp_path / "folder", "last", make) == tmp_path / "folder"
    assert len(calls) == 1
    assert (tmp_path / "folder" / "last").exists()


def test_without_locks_the_first_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"

    def make(partial: Path) -> None:
        folder.mkdir()  # another process is faster
        (folder / "last").write_text("theirs")
        (partial / "last").write_text("ours")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    make_folder_once(folder, "last", make)
    assert (folder / "last").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
