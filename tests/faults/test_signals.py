"""Schedulers and people who stop a run, and runs that get in each other's way."""

from __future__ import annotations

import os
import signal
import time

import pytest
from helpers.subprocess_runs import config, run, start

from cvhpe.data.loader import Batches
from cvhpe.errors import UserError
from cvhpe.runs.run_dir import load_run
from cvhpe.runs.serialization import read_metadata
from cvhpe.training.datamodule import open_data
from cvhpe.training.signals import Stopped
from cvhpe.training.trainer import train


def wait_for(found, seconds=60.0):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends(hands, tmp_path, number, code):
    """In time: within the step under way, where a scheduler gives half a minute."""
    out = tmp_path / "run"
    process = start(hands, out, epochs=5000, checkpoint_every_s=1000, num_validations=1)
    wait_for(lambda: (out / "metrics.jsonl").exists())
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == code
    assert load_run(out).model is not None
    assert len(list((out / "checkpoints").iterdir())) == 1


def test_a_signal_in_the_middle_of_a_validation_cuts_it_short(hands, same_end, tmp_path, monkeypatch):
    """It is repeated before the next step, so that the best weights are those of an undisturbed run."""
    epoch, calls = Batches.epoch, []

    def stopping(self, *arguments, **more):
        if not self.shuffle:
            calls.append(1)
            if len(calls) == 4:  # the second validation's second pass over the samples
                os.kill(os.getpid(), signal.SIGTERM)
        return epoch(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "epoch", stopping)
        with pytest.raises(Stopped, match="SIGTERM"):
            run(hands, tmp_path)
    progress = read_metadata(sorted((tmp_path / "checkpoints").iterdir())[-1])["progress"]
    assert progress["validated"] < progress["step"] == 10
    run(hands, tmp_path, resume=True)
    same_end(tmp_path)


def test_of_two_runs_in_one_folder_the_second_is_refused(hands, tmp_path):
    out = tmp_path / "run"
    first = start(hands, out, epochs=2000)
    wait_for(lambda: (out / "metrics.jsonl").exists())
    for resume in (False, True):
        c = config(hands, epochs=2000)
        with pytest.raises(UserError, match="another run is writing this folder"):
            train(c, open_data(c), out, resume=resume)
    assert first.is_alive()
    os.kill(first.pid, signal.SIGTERM)
    first.join(30)
    assert first.exitcode == 143
