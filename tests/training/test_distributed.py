"""Several processes train what one would, whatever samples lack and however a batch is split; and they end together."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from helpers.hands import joints_file
from torch import nn

from cvhpe.config.schema import checked
from cvhpe.errors import UserError
from cvhpe.training.datamodule import open_data
from cvhpe.training.device import pick_device
from cvhpe.training.distributed import ProcessGroup, process_group, rendezvous_address, wrap_ddp
from cvhpe.training.trainer import train, train_loader

SETTINGS = {
    "modalities": ["joints2d", "joints3d"],
    "pairs": ["joints2d:joints3d", "joints2d:joints2d", "joints3d:joints3d", "joints3d:joints2d"],
    "hidden_dim": 32,
    "num_hidden_layers": 2,
    "latent_dim": 8,
    "epochs": 13,
    "min_steps": 0,
    "num_validations": 2,
    "clip_norm": 1.0,
    "ema_decay": 0.9,
    "device": "cpu",
    "threads": 1,
    "log_every": 1,
    "checkpoint_every_s": 0,
}
"""52 steps."""


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return joints_file(tmp_path_factory.mktemp("hands") / "hands.npz")


@pytest.fixture(scope="module")
def gappy(tmp_path_factory):
    """Three in four training hands without 3D joints, so that what two processes have differs in every step."""
    folder = tmp_path_factory.mktemp("gappy")
    with np.load(joints_file(folder / "full.npz")) as full:
        labelled, visible = full["joints3d_mm"].copy(), np.ones((320, 21), bool)
    labelled[:256][np.arange(256) % 4 > 0] = np.nan
    seen = visible & np.isfinite(labelled[..., 0])
    return joints_file(folder / "part.npz", joints3d_mm=labelled, visible=seen)


def config(hands, **changes):
    return checked({**SETTINGS, "data": [f"joints:{hands}"], **changes})


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def member(rank, size, port, c, out, resume):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(size))
    with process_group(ProcessGroup(rank, size), torch.device("cpu")) as group:
        train(c, open_data(c), out, group=group, resume=resume)


def train_together(size, c, out, resume=False):
    open_data(c)
    multiprocessing.set_forkserver_preload(["cvhpe.training.trainer"])
    mp.start_processes(member, (size, free_port(), c, out, resume), size, start_method="forkserver")


def losses(out):
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timed = ("kind", "seconds", "samples_per_second")
    return [{k: v for k, v in r.items() if k not in timed} for r in records if r["kind"] == "train"]


def assert_close(a, b, tolerance=1e-5):
    assert len(a) == len(b) >= 50
    for x, y in zip(a, b, strict=True):
        assert x == pytest.approx(y, rel=0, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("data", "size"), [("hands", 2), ("gappy", 4)])
def test_several_processes_are_one(data, size, request, tmp_path):
    c = config(request.getfixturevalue(data))
    train(c, open_data(c), tmp_path / "one")
    train_together(size, c, tmp_path / "many")
    one, many = losses(tmp_path / "one"), losses(tmp_path / "many")
    assert {*SETTINGS["pairs"], "kl:joints2d", "loss"} <= one[0].keys()
    assert_close(one, many)
    assert one[-1]["loss"] < one[0]["loss"]


def test_pieces_of_a_batch_are_the_batch(gappy, tmp_path):
    for name, pieces in (("whole", 1), ("pieces", 5)):
        c = config(gappy, grad_accum_steps=pieces)
        train(c, open_data(c), tmp_path / name)
    assert_close(losses(tmp_path / "whole"), losses(tmp_path / "pieces"))


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(hands, tmp_path):
    """Two begin it, are stopped, and one ends it, as if it had been one all along."""
    c = config(hands)
    train(c, open_data(c), tmp_path / "one")
    out = tmp_path / "two"
    train_together(2, c, out)
    for late in sorted((out / "checkpoints").iterdir())[-1:]:
        late.unlink()
    train(c, open_data(c), out, resume=True)
    assert_close(losses(tmp_path / "one"), losses(out))


def test_a_batch_that_does_not_divide_is_refused(hands):
    c = config(hands, batch_size=63)
    with pytest.raises(UserError, match="batch_size 63 does not divide among 2 processes"):
        train_loader(c, open_data(c), torch.device("cpu"), ProcessGroup(1, 2))


@pytest.mark.parametrize("same", [True, False])
def test_batch_statistics_are_shared_only_where_all_have_work(monkeypatch, same):
    """On GPUs; a process without work for a network would be waited for inside its forward pass."""
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda model, **options: model)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    got = wrap_ddp(net, ProcessGroup(0, 2), torch.device("cuda"), same)
    assert isinstance(got[1], nn.SyncBatchNorm) is same
    assert got[0] is net[0]


@pytest.mark.parametrize(
    ("env", "group"),
    [
        ({}, ProcessGroup()),
        ({"RANK": "5", "WORLD_SIZE": "16", "LOCAL_RANK": "1"}, ProcessGroup(5, 16, 1)),
        ({"SLURM_PROCID": "9", "SLURM_STEP_NUM_TASKS": "16", "SLURM_LOCALID": "1"}, ProcessGroup(9, 16, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "16"}, ProcessGroup()),
    ],
)
def test_whoever_starts_us_says_who_we_are(env, group):
    assert ProcessGroup.from_env(env) == group


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu[007-009,12]", "gpu007"), ("a-b[3,5],c", "a-b3")],
)
def test_a_slurm_job_meets_on_its_first_node(nodes, first):
    assert rendezvous_address({"SLURM_JOB_NODELIST": nodes, "SLURM_JOB_ID": "31"}) == (first, 40031)
    assert rendezvous_address({"SLURM_JOB_NODELIST": nodes, "MASTER_ADDR": "h", "MASTER_PORT": "7"}) == ("h", 7)


@pytest.mark.parametrize(
    ("env", "seen", "device"),
    [
        ({"LOCAL_RANK": "1"}, 2, "cuda:1"),
        ({"SLURM_LOCALID": "1"}, 2, "cuda:1"),
        ({"SLURM_LOCALID": "1"}, 1, "cuda"),  # --gpus-per-task 1: the one it sees is its own
        ({"SLURM_LOCALID": "1", "LOCAL_RANK": "1"}, 1, None),  # torchrun in a step: two processes, one GPU
        ({"LOCAL_RANK": "1"}, 1, None),
    ],
)
def test_each_process_takes_a_gpu_of_its_own(env, seen, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if device is None:
        with pytest.raises(UserError, match="process 2 of this machine has no GPU; it has 1"):
            pick_device("auto", 1)
    else:
        assert pick_device("auto", 1) == torch.device(device)


def test_processes_without_an_address_are_refused():
    with pytest.raises(UserError, match="MASTER_ADDR"):
        rendezvous_address({})


def command(hands, out, *more):
    settings = {k: v for k, v in SETTINGS.items() if k not in ("modalities", "pairs", "device")}
    sets = [f"--set={k}={v}" for k, v in settings.items()]
    pairs = ",".join(SETTINGS["pairs"])
    return [
        sys.executable, "-m", "cvhpe", "train", "--modalities", "joints2d,joints3d", "--pairs", pairs, *sets,
        "--device", "cpu", "--data", f"joints:{hands}", "--out", str(out), *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_the_command_starts_processes_that_speak_with_one_voice(hands, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(command(hands, out, "--nproc", "2"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"run: {out}") == 1
    assert done.stderr.count("held-out median EPE") == 2
    again = subprocess.run(command(hands, out, "--nproc", "2"), capture_output=True, text=True)
    assert again.returncode == 2
    said = [line for line in again.stderr.splitlines() if "error" in line.lower()]
    assert said == [f"error: {out}: holds a run already; go on with --resume or choose another --out"]
    assert "Traceback" not in again.stderr


@pytest.mark.slow
def test_the_command_runs_as_the_tasks_of_a_slurm_step(hands, tmp_path):
    """Two tasks with SLURM's variables and no launcher: they meet, train together and speak with one voice."""
    out = tmp_path / "run"
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_TASKS": "2"}
    tasks = [
        subprocess.Popen(
            command(hands, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **job, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]  # fmt: skip
    said = [task.communicate(timeout=300) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert f"run: {out}" in said[0][0]
    assert said[1] == ("", "")
    assert losses(out)[-1]["epoch"] == SETTINGS["epochs"]


@pytest.mark.slow
def test_stopped_processes_save_and_end_together(hands, tmp_path):
    out = tmp_path / "run"
    long = command(hands, out, "--nproc", "2", "--set", "epochs=3000", "--set", "checkpoint_every_s=1000")
    process = subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in said
    assert len(list((out / "checkpoints").iterdir())) == 1


ENDS = """
import atexit, sys
import cvhpe.training.distributed
from cvhpe import cli
atexit.register(print, "late")
cvhpe.training.distributed.has_joined = {joined}
sys.argv = ["cvhpe", "train", "--resume"]
sys.stdout.write("said")
cli.main()
"""


@pytest.mark.parametrize(("joined", "said"), [(True, "said"), (False, "saidlate\n")])
def test_a_process_that_joined_a_group_ends_before_its_libraries_do(joined, said):
    """With what it has said, and its own exit code: gloo's threads may abort it later."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS.format(joined=joined)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CVHPE_OPS": "reference"},  # no warning where no kernels are installed
    )
    assert (done.returncode, done.stdout) == (2, said)
    assert done.stderr == "error: --resume: say which run with --out\n"
