from __future__ import annotations

import json
import subprocess
import sys

import pytest


def evaluate(*words: object) -> subprocess.CompletedProcess[str]:
    code = "from cvhpe.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "evaluate", *map(str, words)], capture_output=True, text=True, check=False
    )


def test_a_published_file_is_scored(shared_data) -> None:
    board = shared_data / "leaderboard" / "icvl"
    file = board / "CVPR14_LRF_Results.txt"
    done = evaluate("--predictions", file, "--data", f"icvl:{board}", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["epe_mean_mm"] == pytest.approx(12.578, abs=1e-3)
    assert record["frames"] == 1596
    done = evaluate("--predictions", file, "--data", f"icvl:{board}")
    assert "12.578" in done.stdout
    assert "30 mm" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a run folder"),
        (["--predictions", "p.txt"], "needs one data set"),
        (["run", "--predictions", "p.txt"], "one of them at a time"),
        (["--predictions", "p.txt", "--data", "icvl:/nowhere"], "/nowhere"),
    ],
)
def test_what_is_missing_is_said_in_one_line(words, said) -> None:
    done = evaluate(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
