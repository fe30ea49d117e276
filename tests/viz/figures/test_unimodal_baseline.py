from __future__ import annotations

from dataclasses import replace

import pytest

from cvhpe.errors import UserError
from cvhpe.io.locking import run_lock
from cvhpe.viz.figures.unimodal_baseline import load_unimodal, train_unimodal, unimodal_config


def test_only_pairs_and_length_differ_from_the_run(held_everything):
    run = held_everything.run
    config = unimodal_config(run, 7)
    assert config.pairs == ("rgb:rgb", "depth:depth", "joints2d:joints2d", "joints3d:joints3d")
    changed = {k for k, v in config.model_dump().items() if v != run.config.model_dump()[k]}
    assert changed <= {
        "pairs", "pair_weights", "epochs", "min_steps", "num_validations", "keep_checkpoints", "warmup_fraction",
    }  # fmt: skip


def test_the_learning_rate_is_limited_with_images(held_everything, held_lift):
    for held, rate in ((held_everything, 1e-3), (held_lift, 3e-3)):
        fast = replace(held.run, config=held.run.config.model_copy(update={"lr": 3e-3}))
        assert unimodal_config(fast, 7).lr == rate


def test_the_baseline_is_trained_again_only_for_other_settings(held_lift):
    run = held_lift.run
    first = train_unimodal(run, 3)
    stamp = (first.path / "model.safetensors").stat().st_mtime_ns
    assert train_unimodal(run, 3).path == first.path
    assert (first.path / "model.safetensors").stat().st_mtime_ns == stamp
    assert not (first.path / "checkpoints").exists()
    train_unimodal(run, 4)
    assert (first.path / "model.safetensors").stat().st_mtime_ns != stamp
    assert load_unimodal(run, first.path).path == first.path


def test_two_processes_do_not_train_into_one_run_folder(held_lift):
    run = held_lift.run
    with run_lock(run.path), pytest.raises(UserError, match=r"trained now .*another run is writing .*--unimodal-run"):
        train_unimodal(run, 5)


def test_the_rest_of_a_killed_training_is_removed(held_lift):
    run = held_lift.run
    (run.path / ".unimodal" / "checkpoints").mkdir(parents=True)
    (run.path / ".unimodal" / "model.safetensors").write_bytes(b"half")
    assert train_unimodal(run, 5).config.min_steps == 5
    assert not (run.path / ".unimodal").exists()


def test_a_cross_modal_run_is_no_baseline(held_lift):
    with pytest.raises(UserError, match=r"is cross-modal \(joints2d:joints3d\)"):
        load_unimodal(held_lift.run, held_lift.run.path)
