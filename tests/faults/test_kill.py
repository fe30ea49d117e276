"""``kill -9`` at any instant, then ``--resume``: the same bits as the run that was never killed."""

from __future__ import annotations

import random
import signal
import time

import pytest
from runs import last_state, lines, start

from cvhpe import checkpoint


def resumable(out):
    return (out / "config.toml").exists()


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_at_random_instants(hands, same_end, tmp_path, seed):
    chance = random.Random(seed)
    out, kills = tmp_path / "run", 0
    for _ in range(40):
        process = start(hands, out, resume=resumable(out))
        process.join(chance.uniform(0.05, 0.6) if kills < 6 else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0
        break
    assert kills
    same_end(out)


def test_a_run_of_pictures_killed_at_random_instants(hands, tmp_path):
    """What joints alone do not have: batch statistics, bfloat16, reading threads, hints, half-size pictures."""
    wanted = {
        "synthetic_count": 24, "modalities": ["rgb", "joints2d", "joints3d"],
        "pairs": ["rgb:joints3d", "rgb:rgb", "joints2d:joints3d"], "backbone": "keypoints", "hint": 10.0,
        "image_size": 128, "coarse": 0.5, "batch_size": 6, "precision": "bfloat16", "workers": 2, "epochs": 3,
    }  # fmt: skip
    whole, out, chance, kills = tmp_path / "whole", tmp_path / "run", random.Random(3), 0
    begun = time.monotonic()
    process = start("synthetic", whole, **wanted)
    process.join()
    assert process.exitcode == 0
    took = time.monotonic() - begun
    for _ in range(20):
        process = start("synthetic", out, resume=resumable(out), **wanted)
        process.join(chance.uniform(0.2, 0.8) * took if kills < 3 else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0
        break
    assert kills
    for load in (last_state, lambda o: checkpoint.load(o / "model.safetensors")):
        a, b = load(whole), load(out)
        assert a.keys() == b.keys()
        assert all(a[n].equal(b[n]) for n in a)
    for kind in ("train", "validation"):
        assert lines(out, kind) == lines(whole, kind)


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
