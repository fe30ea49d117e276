"""The loop: it learns, repeats itself to the bit, and resumes to the same bits."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from helpers.hands import joints_file

from cvhpe.cli.scores import score
from cvhpe.config.schema import checked
from cvhpe.errors import UserError
from cvhpe.runs import serialization
from cvhpe.runs.run_dir import load_run
from cvhpe.training.callbacks import Reporter
from cvhpe.training.datamodule import open_data, open_held_out
from cvhpe.training.device import pick_device
from cvhpe.training.distributed import ProcessGroup
from cvhpe.training.profiling import PHASES, STEPS
from cvhpe.training.signals import Stopped
from cvhpe.training.trainer import build_state, train, train_loader

SMALL = {
    "modalities": ["joints2d", "joints3d"],
    "pairs": ["joints2d:joints3d", "joints2d:joints2d", "joints3d:joints3d"],
    "hidden_dim": 32,
    "num_hidden_layers": 2,
    "latent_dim": 8,
    "epochs": 6,
    "min_steps": 0,
    "num_validations": 3,
    "lr": 1e-3,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    old = os.environ.get("CVHPE_CACHE")
    os.environ["CVHPE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if old is None:
        del os.environ["CVHPE_CACHE"]
    else:
        os.environ["CVHPE_CACHE"] = old


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return joints_file(tmp_path_factory.mktemp("hands") / "hands.npz")


def config(hands, **changes):
    return checked({**SMALL, "data": [f"joints:{hands}"], **changes})


def run(hands, out, *, resume=False, report=None, **changes):
    c = config(hands, **changes)
    return train(c, open_data(c), out, resume=resume, report=report)


def weights(path):
    return serialization.read_tensors(path / "model.safetensors")


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def last_checkpoint(out):
    return serialization.read_tensors(sorted((out / "checkpoints").iterdir())[-1])


def test_a_run_learns_and_writes_its_folder(hands, tmp_path):
    out = tmp_path / "run"
    progress = run(hands, out, epochs=100, lr=3e-3, hidden_dim=128)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    scores = [r["score"] for r in lines if r["kind"] == "validation"]
    assert progress.best == min(scores)
    assert progress.step == 100 * (256 // 64)
    losses = [r["loss"] for r in lines if r["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert {"joints2d:joints3d", "kl:joints2d", "samples_per_second", "epoch"} <= lines[0].keys()
    assert (out / "config.toml").exists()
    loaded = load_run(out)
    assert loaded.metadata.layout == "hand21"
    assert loaded.metadata.training["step"] == progress.best_step
    metadata = serialization.read_metadata(out / "model.safetensors")
    assert metadata["modalities"]["joints3d"]["plugin"] == "cvhpe"
    assert metadata["pairs"] == list(SMALL["pairs"])
    assert set(loaded.baselines) == {"mean_pose", "regression", "mean_pose_right", "regression_right"}
    packs = open_held_out(loaded.config, [f"joints:{hands}"], "")
    result = score(loaded, packs, "joints2d", "joints3d", None)
    assert result.model.epe_median < 0.85 * result.baselines["mean_pose"].epe_median


def test_the_same_seed_gives_the_same_bits_and_another_does_not(hands, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(hands, tmp_path / name, seed=seed)
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    a, c = (weights(tmp_path / n)["model.encoders.joints2d.body.0.weight"] for n in "ac")
    assert not torch.equal(a, c)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("stop_at", [1, 5, 13])
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(hands, tmp_path, stop_at, ema_decay):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(hands, whole, ema_decay=ema_decay, schedule="cosine")

    def stop(record):
        if record["step"] == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="SIGTERM"):
        run(hands, cut, report=Reporter(step=stop), ema_decay=ema_decay, schedule="cosine", log_every=1)
    assert load_run(cut).model is not None
    assert [p.name for p in (cut / "checkpoints").iterdir()] == [f"step_{stop_at:08d}.safetensors"]
    run(hands, cut, resume=True, ema_decay=ema_decay, schedule="cosine", log_every=1)
    assert_equal(last_checkpoint(whole), last_checkpoint(cut))
    assert_equal(weights(whole), weights(cut))
    records = [json.loads(line) for f in (whole, cut) for line in (f / "metrics.jsonl").read_text().splitlines()]
    scores = [r["score"] for r in records if r["kind"] == "validation"]
    assert scores[: len(scores) // 2] == scores[len(scores) // 2 :]


def test_a_folder_with_a_run_is_not_overwritten(hands, tmp_path):
    run(hands, tmp_path, epochs=1)
    with pytest.raises(UserError, match="holds a run already"):
        run(hands, tmp_path, epochs=1)
    with pytest.raises(UserError, match="no usable checkpoint"):
        run(hands, tmp_path / "new", resume=True)
    with pytest.raises(UserError, match=r"made with other settings \(lr\)"):
        run(hands, tmp_path, resume=True, epochs=1, lr=0.5)


def test_two_runs_cannot_write_one_folder(hands, tmp_path):
    c = config(hands)

    def second(record):
        with pytest.raises(UserError, match="another run is writing"):
            train(c, open_data(c), tmp_path)
        validations.append(record)

    validations = []
    train(c, open_data(c), tmp_path, report=Reporter(validation=second))
    assert len(validations) == 3


def test_a_loss_that_is_not_a_number_names_its_pair(hands, tmp_path):
    with pytest.raises(UserError, match=r"step \d+: the loss of joints2d:joints3d.* is not finite"):
        run(hands, tmp_path, lr=1e6, epochs=60)


def test_samples_without_3d_joints_still_train_what_they_have(tmp_path):
    n = 320
    xyz = joints_file(tmp_path / "full.npz", n)
    with np.load(xyz) as full:
        labelled, visible = full["joints3d_mm"].copy(), np.ones((n, 21), bool)
    labelled[32:256] = np.nan
    path = joints_file(tmp_path / "part.npz", n, joints3d_mm=labelled, visible=visible & np.isfinite(labelled[..., 0]))
    c = config(path)
    data = open_data(c)
    loader = train_loader(c, data, pick_device("cpu"), ProcessGroup())
    has = next(loader.epoch(0))["has_joints3d"]
    assert 0 < has.sum() < len(has)
    progress = train(c, data, tmp_path / "run")
    assert np.isfinite(progress.best)
    before, _ = build_state(c, loader, pick_device("cpu"))
    after = load_run(tmp_path / "run").model.state_dict()
    assert not any(torch.equal(after[name], weight) for name, weight in before.model.named_parameters())


@pytest.mark.parametrize("protocol", ["T", "TS", "TH", "TSH"])
def test_every_protocol_trains_and_is_evaluated_as_trained(hands, tmp_path, protocol):
    run(hands, tmp_path, protocol=protocol)
    loaded = load_run(tmp_path)
    packs = open_held_out(loaded.config, [f"joints:{hands}"], "")
    result = score(loaded, packs, "joints2d", "joints3d", None)
    assert result.protocol == protocol
    assert result.model.epe_median == pytest.approx(loaded.metadata.training["validation"], abs=1e-4)
    assert np.isfinite(result.model.epe_mean)
    for more in {"T", "TS", "TH", "TSH"} - {protocol}:
        if set(more) - set(protocol):
            with pytest.raises(UserError, match="was trained under"):
                score(loaded, packs, "joints2d", "joints3d", more)
        else:
            assert score(loaded, packs, "joints2d", "joints3d", more).protocol == more


def test_a_profile_says_where_the_time_went(hands, tmp_path):
    c = config(hands)
    notes = []
    train(c, open_data(c), tmp_path, report=Reporter(note=notes.append), profile=True)
    table = (tmp_path / "profile" / "table.txt").read_text()
    shares = {}
    for phase in PHASES[:5]:
        line = next(row for row in table.splitlines() if row.startswith(phase + " "))
        shares[phase] = float(line.split()[-1].rstrip("%"))
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) <= 100.5
    assert "addmm" in table
    events = json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    assert sum(e.get("name") == "cvhpe: forward" for e in events) == STEPS
    assert any(str(tmp_path / "profile") in note for note in notes)


def test_a_run_does_not_go_on_with_another_plugin_of_the_same_name(hands, tmp_path, monkeypatch):
    from cvhpe.plugin.registry import registry

    run(hands, tmp_path, epochs=1)
    supplier = registry().supplier("joints3d")
    monkeypatch.setattr(supplier, "dist", "somebody-elses")
    with pytest.raises(UserError, match=r"trained with modality 'joints[23]d' of cvhpe"):
        run(hands, tmp_path, epochs=1, resume=True)


def test_a_low_resolution_warm_up_without_images_is_refused(hands, tmp_path):
    with pytest.raises(UserError, match=r"low_res_fraction 0\.25: no image is encoded by joints2d:joints3d"):
        run(hands, tmp_path / "run", low_res_fraction=0.25)
