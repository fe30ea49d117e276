from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.dataset_writers import write_coco, write_msra
from PIL import Image

COMMAND = [sys.executable, "-c", "from cvhpe.cli import main; main()", "data"]


def run(*words: object, env: dict | None = None) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )


def test_list_names_them() -> None:
    done = run("list")
    assert done.returncode == 0, done.stderr
    for name in ("synthetic", "rhd", "stb-sk", "icvl", "nyu", "msra", "freihand", "coco", "joints"):
        assert name in done.stdout


def test_verify_passes_what_is_good_and_ends_with_2_on_what_is_not(tmp_path) -> None:
    write_msra(tmp_path, np.random.default_rng(1), subjects=[0, 1])
    done = run("verify", f"msra:{tmp_path}", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {r["verdict"] for r in rows} <= {"ok", "note", "warn"}
    (tmp_path / "P0/1/000000_depth.bin").unlink()
    done = run("verify", f"msra:{tmp_path}")
    assert done.returncode == 2
    assert "000000_depth.bin" in done.stdout
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: msra:")


def test_show_writes_a_sheet(tmp_path) -> None:
    write_coco(tmp_path, np.random.default_rng(1), 3, "test.json")
    done = run("show", f"coco:{tmp_path}", "--out", tmp_path / "sheet.png", "--count", 2)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (640, 320)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify", "stbb:/x"], "did you mean 'stb'?"),
        (["verify", "stb"], "stb:PATH"),
        (["verify", "stb:/nowhere", "--split", "trian"], "--split trian: did you mean 'train'?"),
        (["show", "stb:/nowhere"], "/nowhere: no such folder"),
        (["prepare", "stb:/nowhere", "--fields", "rbg"], "--fields rbg: did you mean 'rgb'?"),
        (["verify", "msra:/nowhere"], "/nowhere"),
    ],
)
def test_a_fault_is_one_line_and_2(words, said) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
