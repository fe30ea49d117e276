"""Disks that are full, folders that cannot be written, files that are damaged: one clear line, nothing lost."""

from __future__ import annotations

import json
import resource
import shutil
import signal

import pytest
import torch
from helpers.subprocess_runs import config, last_checkpoint, run, run_until

from cvhpe.data.loader import Batches
from cvhpe.errors import DataError, UserError
from cvhpe.runs import serialization
from cvhpe.runs.run_dir import load_run
from cvhpe.training import trainer
from cvhpe.training.callbacks import Reporter
from cvhpe.training.datamodule import open_data
from cvhpe.training.trainer import train


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def checkpoints(out):
    return sorted((out / "checkpoints").glob("step_*.safetensors"))


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "garbage", "exchanged"])
def test_a_damaged_last_state_falls_back_and_says_so(hands, same_end, tmp_path, harm):
    out = tmp_path / "run"
    run_until(hands, out, 7)
    before, last = checkpoints(out)[-2:]
    raw = bytearray(last.read_bytes())
    if harm == "cut":
        raw = raw[:-50]
    elif harm == "flip":
        raw[len(raw) // 2] ^= 1
    elif harm == "empty":
        raw = bytearray()
    elif harm == "garbage":
        raw = bytearray(b"\xff" * 100)
    else:  # another model's tensors with the metadata of these
        tensors = {n: torch.zeros(1) for n in serialization.read_tensors(last)}
        serialization.save(last, tensors, serialization.read_metadata(last))
        raw = bytearray(last.read_bytes())
    last.write_bytes(raw)
    notes = []
    run(hands, out, resume=True, report=Reporter(note=notes.append))
    assert len(notes) == 1
    assert last.name in notes[0]
    assert "falling back to the checkpoint before it" in notes[0]
    assert before.name not in notes[0]
    same_end(out)


def test_a_run_whose_states_are_all_damaged_says_so_and_touches_nothing(hands, tmp_path):
    out = tmp_path / "run"
    run_until(hands, out, 7)
    for path in checkpoints(out):
        path.write_bytes(b"")
    before = (out / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="no usable checkpoint to resume from"):
        run(hands, out, resume=True)
    assert (out / "metrics.jsonl").read_bytes() == before


def test_half_a_line_of_metrics_is_forgotten(hands, same_end, tmp_path):
    out = tmp_path / "run"
    run_until(hands, out, 9)
    with open(out / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 10, "loss": 1.0}\n{"kind": "train", "st')
    run(hands, out, resume=True)
    same_end(out)
    trained = [
        r["step"] for r in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if r["kind"] == "train"
    ]
    assert trained == sorted(set(trained))


def test_a_full_disk_under_the_metrics(hands, tmp_path):
    """/dev/full takes no byte, as a full disk does."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="disk is full") as error:
        run(hands, tmp_path / "run", log_every=3)
    assert "metrics.jsonl" in one_line(error)


def test_a_disk_that_takes_no_more_of_a_state(hands, same_end, tmp_path):
    """The last state stays whole, and once there is room again the run ends as if nothing had been."""
    out = tmp_path / "run"
    run_until(hands, out, 6)
    whole = {p: p.read_bytes() for p in checkpoints(out)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (checkpoints(out)[-1].stat().st_size - 4096, hard))
    try:
        with pytest.raises(UserError, match=r"step_00000007.safetensors: cannot be written: File too large$") as error:
            run(hands, out, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    one_line(error)
    assert {p: p.read_bytes() for p in checkpoints(out)} == whole
    run(hands, out, resume=True)
    same_end(out)


@pytest.mark.parametrize("what", ["checkpoints", "config.toml", "."])
def test_something_in_the_way_of_the_run_folder(hands, tmp_path, what):
    """Where no folder can be made or no file replaced; root may write anywhere, so modes would stop nobody."""
    out = tmp_path / "run"
    if what == ".":
        out.write_text("a file")
    elif what == "config.toml":
        (out / what / "inside").mkdir(parents=True)
    else:
        out.mkdir()
        (out / what).write_text("a file")
    with pytest.raises(UserError, match="cannot be written") as error:
        run(hands, out)
    assert str(out) in one_line(error)


def test_another_runs_settings_are_named(hands, tmp_path):
    out = tmp_path / "run"
    run_until(hands, out, 3)
    with pytest.raises(UserError, match=r"made with other settings \(batch_size, lr\)") as error:
        run(hands, out, resume=True, lr=0.5, batch_size=32)
    one_line(error)
    assert len(checkpoints(out)) == 2


@pytest.fixture
def packed_images(tmp_path, monkeypatch):
    """A packed data set of the smallest images, in a cache of its own, to be damaged."""
    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))


def image_config(**changes):
    wanted = {
        "modalities": ["rgb", "joints3d"],
        "pairs": ["joints3d:joints3d"],
        "synthetic_count": 40,
        "image_size": 64,
        "batch_size": 4,
        "epochs": 3,
        "ema_decay": 0.0,
    }
    return config("synthetic", **(wanted | changes))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_file_cut_short_in_the_middle_of_an_epoch(packed_images, tmp_path, workers):
    c = image_config(workers=workers)
    data = open_data(c)
    file = data.train[0].path / "rgb.npy"
    out = tmp_path / "run"
    size = file.stat().st_size

    def harm(record):
        if record["step"] == 4:
            with open(file, "r+b") as stream:
                stream.truncate(size // 3)

    with pytest.raises(DataError, match=r"rgb\.npy: ends before sample \d+; delete the folder") as error:
        train(c, data, out, report=Reporter(step=harm))
    one_line(error)
    assert checkpoints(out)
    shutil.rmtree(data.train[0].path)
    again = open_data(c)
    assert train(c, again, out, resume=True).step == train(c, again, tmp_path / "whole").step
    a, b = last_checkpoint(out), last_checkpoint(tmp_path / "whole")
    assert all(a[n].equal(b[n]) for n in a)


def test_a_reading_thread_that_dies_ends_the_run_with_what_killed_it(hands, tmp_path, monkeypatch):
    """Loader workers are threads: one dies only of an exception, which must neither hang nor vanish."""
    c = config(hands, workers=3)
    data = open_data(c)
    batch, calls = Batches.batch, []

    def failing(self, index):
        calls.append(1)
        if len(calls) == 9:
            raise MemoryError("no memory for a batch")
        return batch(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", failing)
        with pytest.raises(MemoryError, match="no memory"):
            train(c, data, tmp_path / "run")
    assert train(c, data, tmp_path / "run", resume=True).step == 20


@pytest.fixture
def huge_joint(monkeypatch):
    """A joint of sample 17 that lies 1e30 bones away."""
    batch = Batches.batch

    def harmed(self, index):
        fields = batch(self, index)
        fields["joints3d"][fields["index"] == 17, 5] = 1e30
        return fields

    monkeypatch.setattr(Batches, "batch", harmed)


def test_an_implausible_sample_is_named(hands, huge_joint, tmp_path):
    c = config(hands, checkpoint_every_s=1000, log_every=7)
    data = open_data(c)
    with pytest.raises(UserError, match="is not finite") as error:
        train(c, data, tmp_path)
    text = one_line(error)
    order = Batches(data.train, ("joints3d",), 64, seed=c.seed).order(0)
    number = next(n for n, rows in enumerate(order.reshape(-1, 64)) if 17 in rows)
    name = f"joints {data.train[0]['id'][17]}"
    assert text.startswith(f"step {number}: the loss of joints2d:joints3d, joints3d:joints3d is not finite")
    assert f"joints3d is up to 1e+30 in {name}: fix or leave out that data" in text
    dump = next((tmp_path / "diverged_steps").iterdir())
    assert str(dump) in text
    metadata, saved = serialization.read_metadata(dump), serialization.read_tensors(dump)
    assert metadata["step"] == number
    assert name in metadata["samples"]
    assert 17 in saved["index"].tolist()
    assert saved["joints3d"].max() == 1e30
    assert not checkpoints(tmp_path)


def test_a_divergence_is_reported_even_if_its_batch_cannot_be_saved(hands, huge_joint, tmp_path):
    (tmp_path / "diverged_steps").write_text("in the way")
    with pytest.raises(UserError, match=r"^step \d+: the loss of .* is not finite; joints3d is up to 1e\+30") as error:
        run(hands, tmp_path, checkpoint_every_s=1000, log_every=7)
    assert "The batch could not be saved (" in one_line(error)


def test_diverged_weights_are_never_saved(hands, tmp_path):
    with pytest.raises(UserError, match=r"start anew with --set lr=.*The batch is in"):
        run(hands, tmp_path, lr=1e6, epochs=60, log_every=50, ema_decay=0.0, schedule="constant")
    assert checkpoints(tmp_path)
    assert all(t.isfinite().all() for p in checkpoints(tmp_path) for t in serialization.read_tensors(p).values())


def before_step(monkeypatch, number, change):
    """Change the model of a run before a step."""
    step = trainer.train_step

    def changed(state, batch, phase):
        if state.step == number:
            with torch.no_grad():
                change(state.model)
        return step(state, batch, phase)

    monkeypatch.setattr(trainer, "train_step", changed)


def test_a_run_that_diverges_late_keeps_its_good_checkpoints(hands, tmp_path, monkeypatch):
    run_until(hands, tmp_path, 8)
    before_step(monkeypatch, 9, lambda model: model.decoders["joints2d"].body[0].bias[:1].fill_(torch.inf))
    with pytest.raises(UserError, match=r"step 9: .* the best weights, of step \d+, are in") as error:
        run(hands, tmp_path, resume=True)
    one_line(error)
    assert [p.name for p in checkpoints(tmp_path)] == ["step_00000008.safetensors", "step_00000009.safetensors"]
    assert load_run(tmp_path).model is not None
    assert all(t.isfinite().all() for p in checkpoints(tmp_path) for t in serialization.read_tensors(p).values())


def test_a_large_but_finite_kl_ends_the_run_before_it_is_saved(hands, tmp_path, monkeypatch):
    """Without clipping the posterior variance may grow without limit: here the KL is 1e13, all losses finite."""
    run_until(hands, tmp_path, 9, log_every=5)
    before_step(monkeypatch, 11, lambda model: model.encoders["joints2d"].head.logvar.bias.fill_(30.0))
    with pytest.raises(
        UserError, match=r"step 11: the loss of joints2d:joints3d, joints2d:joints2d is \d\.\de\+\d\d, where"
    ) as error:
        run(hands, tmp_path, resume=True, log_every=5)
    text = one_line(error)
    assert "is plausible: start anew with --set lr=" in text
    metadata = serialization.read_metadata(next((tmp_path / "diverged_steps").iterdir()))
    assert metadata["step"] == 11
    assert len(metadata["samples"]) == 64
    assert [p.name for p in checkpoints(tmp_path)] == ["step_00000010.safetensors", "step_00000011.safetensors"]
    assert load_run(tmp_path).model is not None
