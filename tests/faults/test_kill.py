"""``kill -9`` at any instant, then ``--resume``: the same bits as the run that was never killed."""

from __future__ import annotations

import random
import signal
import time

import pytest
from helpers.subprocess_runs import assert_same_run, lines, start

pytestmark = pytest.mark.slow


def resumable(out):
    return (out / "config.toml").exists()


def killed_and_resumed(data, out, kills, instants, **changes):
    """Start a run, kill it at random instants, seconds, and resume it each time, until it ends."""
    killed = 0
    while True:
        process = start(data, out, resume=resumable(out), **changes)
        process.join(next(instants) if killed < kills else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        killed += 1
    assert process.exitcode == 0
    assert killed


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_at_random_instants(hands, same_end, tmp_path, seed):
    chance = random.Random(seed)
    killed_and_resumed(hands, tmp_path / "run", 6, iter(lambda: chance.uniform(0.05, 0.6), None))
    same_end(tmp_path / "run")


def test_an_image_run_killed_at_random_instants(hands, tmp_path):
    """With batch statistics, bfloat16, loader threads, the auxiliary keypoint loss and a low-resolution warm-up."""
    wanted = {
        "synthetic_count": 24, "modalities": ["rgb", "joints2d", "joints3d"],
        "pairs": ["rgb:joints3d", "rgb:rgb", "joints2d:joints3d"], "backbone": "keypoints", "aux_keypoint_weight": 10.0,
        "image_size": 128, "low_res_fraction": 0.5, "batch_size": 6, "precision": "bfloat16", "workers": 2, "epochs": 3,
    }  # fmt: skip
    whole, out, chance = tmp_path / "whole", tmp_path / "run", random.Random(3)
    begun = time.monotonic()
    process = start("synthetic", whole, **wanted)
    process.join()
    assert process.exitcode == 0
    took = time.monotonic() - begun
    killed_and_resumed("synthetic", out, 3, iter(lambda: chance.uniform(0.2, 0.8) * took, None), **wanted)
    assert_same_run(whole, out)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 7, 43, 58, 71])
def test_killed_at_a_file_operation(hands, same_end, tmp_path, at):
    """The first ones are those of config.toml, of the first state and its rename; later ones those of any step."""
    out = tmp_path / "run"
    killed = start(hands, out, kill_at=at)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    again = start(hands, out, resume=resumable(out))
    again.join()
    assert again.exitcode == 0
    same_end(out)


def test_a_finished_run_resumes_to_itself(hands, undisturbed, same_end):
    before = lines(undisturbed, "train")
    again = start(hands, undisturbed, resume=True)
    again.join()
    assert again.exitcode == 0
    assert lines(undisturbed, "train") == before


def test_the_lock_of_a_killed_run_falls_with_it(hands, tmp_path):
    out = tmp_path / "run"
    first = start(hands, out, epochs=2000)
    while not list(out.glob("checkpoints/step_*")):
        time.sleep(0.02)
    second = start(hands, out, resume=True, epochs=2000)
    second.join()
    assert second.exitcode == 2
    first.kill()
    first.join()
    third = start(hands, out, resume=True, epochs=2000)
    third.join(1)
    assert third.exitcode is None
    third.kill()
    third.join()
