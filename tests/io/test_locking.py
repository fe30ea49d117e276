"""Locks: one holder at a time, and one line for whoever comes second."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvhpe.errors import UserError
from cvhpe.io.locking import file_lock, run_lock

pytest.importorskip("fcntl")


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock", wait=False) as locked:
        assert locked
        with pytest.raises(BlockingIOError), file_lock(tmp_path / "lock", wait=False):
            pass
    with file_lock(tmp_path / "lock", wait=True) as locked:
        assert locked


def test_a_run_folder_is_refused_to_a_second_run(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"), pytest.raises(UserError, match="another run is writing this folder"):
        run_lock(tmp_path / "run").__enter__()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be written"):
        run_lock(tmp_path / "file").__enter__()
