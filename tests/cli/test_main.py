"""The command line as a user meets it: whole commands in processes of their own, one line for every fault."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.hands import joints_file
from helpers.shell import ENV, cvhpe, fails

FEW = (
    "--set=epochs=2",
    "--set=min_steps=0",
    "--set=num_validations=1",
    "--set=hidden_dim=16",
    "--set=num_hidden_layers=2",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    ENV["CVHPE_CACHE"] = str(folder / "cache")
    joints_file(folder / "hands.npz")
    return folder


@pytest.fixture(scope="module")
def run(place):
    done = cvhpe("train", "--modalities=joints2d,joints3d", "--data=joints:hands.npz", "--out=run", *FEW, cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "run", done


def test_help_needs_no_torch():
    code = "import sys, cvhpe.cli; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    for command in ("train", "evaluate", "model", "data", "plugins", "doctor"):
        assert command in cvhpe("--help").stdout


@pytest.mark.parametrize(("variant", "total"), [("1", "12,398,387"), ("4", "14,347,346")])
def test_model_counts_the_papers_parameters(variant, total):
    done = cvhpe("model", "--variant", variant, "--recipe", "paper")
    assert done.stdout.splitlines()[-1] == f"total {total}"


def test_training_ends_in_a_table_and_a_run_folder(run):
    folder, done = run
    assert "median EPE" in done.stdout
    assert "mean pose" in done.stdout
    assert "linear regression" in done.stdout
    assert {p.name for p in folder.iterdir()} >= {"config.toml", "metrics.jsonl", "model.safetensors", "checkpoints"}


def test_evaluate_prints_one_object_that_agrees_with_training(run):
    folder, _ = run
    done = cvhpe("evaluate", folder, "--data=joints:hands.npz", "--from=joints2d", "--json", cwd=folder.parent)
    record = json.loads(done.stdout)
    last = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][-1]
    assert record["epe_median_mm"] == pytest.approx(last["joints2d:joints3d"]["epe_median_mm"], abs=1e-4)
    assert {"frames", "epe_mean_mm", "auc_0_50", "auc_20_50", "pck", "per_joint", "protocol", "checkpoint"} <= set(
        record
    )
    assert (record["from"], record["to"], record["protocol"]) == ("joints2d", "joints3d", "TSH")
    assert set(record["baselines"]) == {"mean_pose", "regression"}
    assert len(record["pck"]["values"]) == len(record["pck"]["thresholds_mm"]) == 20
    assert set(record["coverage"]) == {"50", "80", "95"}
    assert all(0 <= share <= 1 for share in record["coverage"].values())
    assert set(record["sample_scaling"]) == {"scale", "dof", "fitted_on"}


def test_a_finished_run_is_kept_and_can_be_resumed(run):
    folder, _ = run
    again = ("train", "--modalities=joints2d,joints3d", "--data=joints:hands.npz", "--out=run", *FEW)
    assert "holds a run already" in fails(*again, cwd=folder.parent)
    assert cvhpe("train", "--resume", "--out=run", cwd=folder.parent).returncode == 0
    for other in ("--set=lr=1", "--recipe=paper"):
        assert "own settings" in fails("train", "--resume", "--out=run", other, cwd=folder.parent)


BAD = {
    "unknown modality": (("--modalities=rgb,joint3d",), "did you mean 'joints3d'?"),
    "a pair that was not asked for": (("--modalities=joints2d,joints3d", "--pairs=rgb:joints3d"), "'rgb'"),
    "a modality that no pair uses": (("--modalities=joints2d,joints3d", "--pairs=joints2d:joints2d"), "joints3d"),
    "unknown setting": (("--set=lrr=1",), "did you mean 'lr'?"),
    "unknown recipe": (("--recipe=pape",), "did you mean 'paper'?"),
    "unknown data set": (("--data=sbt:x",), "did you mean 'stb'?"),
    "no path": (("--data=rhd",), "rhd:PATH"),
    "missing folder": (("--modalities=joints2d,joints3d", "--data=rhd:nowhere"), "nowhere"),
    "missing file": (("--modalities=joints2d,joints3d", "--data=joints:nothing.npz"), "nothing.npz"),
    "data without the modality": (("--modalities=rgb,joints3d", "--data=joints:hands.npz"), "rgb"),
    "no GPU": (("--device=cuda",), "CUDA"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_is_one_line(place, case):
    arguments, says = BAD[case]
    if case == "no GPU" and __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    assert says in fails("train", *arguments, "--out=bad", *FEW, cwd=place)
    assert not (place / "bad" / "model.safetensors").exists()


SPOILT = {
    "wrong shape": ({"joints2d_px": np.zeros((320, 20, 2))}, "joints2d_px"),
    "NaN joints": ({"joints2d_px": np.full((320, 21, 2), np.nan)}, "joints2d_px"),
    "unknown layout": ({"layout": np.array("freihnd")}, "did you mean 'freihand'?"),
    "missing array": ({"K": None}, "K"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_joints_file_with_a_fault_is_one_line(place, case):
    changes, says = SPOILT[case]
    joints_file(place / "spoilt.npz", **changes)
    line = fails("train", "--modalities=joints2d,joints3d", "--data=joints:spoilt.npz", "--out=bad", *FEW, cwd=place)
    assert says in line
    assert "spoilt.npz" in line


def test_a_pickle_that_wants_to_run_code_does_not(place):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {place / 'ran'}",)

    folder = place / "rhd" / "training"
    for name in ("color", "depth", "mask"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "anno_training.pickle").write_bytes(pickle.dumps({0: Evil()}))
    line = fails("train", "--modalities=joints2d,joints3d", "--data=rhd:rhd", "--out=bad", *FEW, cwd=place)
    assert "anno_training.pickle" in line
    assert not (place / "ran").exists()


def test_a_run_that_is_none_is_one_line(place, run):
    assert "no such run" in fails("evaluate", "nowhere", cwd=place)
    (place / "empty").mkdir(exist_ok=True)
    assert "holds no model.safetensors" in fails("evaluate", "empty", cwd=place)
    assert "did you mean 'joints2d'?" in fails("evaluate", "run", "--from=joint2d", cwd=place)
    assert "did you mean 'TS'?" in fails("evaluate", "run", "--protocol=TSX", cwd=place)


def test_a_full_disk_is_one_line_and_leaves_no_half_a_file(place):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here to write to")
    out = place / "full"
    out.mkdir(exist_ok=True)
    (out / "metrics.jsonl").symlink_to(full)
    line = fails("train", "--modalities=joints2d,joints3d", "--data=joints:hands.npz", "--out=full", *FEW, cwd=place)
    assert "the disk is full" in line


def test_a_result_that_a_full_disk_does_not_take_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here to write to")
    command = [sys.executable, "-m", "cvhpe", "model", "--variant=1", "--recipe=paper"]
    quiet = {**ENV, "CVHPE_OPS": "reference"}  # no warning where no kernels are installed
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=quiet, timeout=250)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: the output: the disk is full; free some space there"]
