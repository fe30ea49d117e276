"""Faults that end the command: one line, an exit code, and a folder that a run can resume from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from helpers.subprocess_runs import SETTINGS

import cvhpe.training.calibration
from cvhpe import cli
from cvhpe.cli import scores
from cvhpe.data.loader import Batches
from cvhpe.runs.serialization import read_metadata
from cvhpe.uncertainty.fusion import CALIBRATION

LIMITED = "import resource as r; r.setrlimit(r.RLIMIT_AS, ({0}, {0})); from cvhpe.cli import main; main()"


def arguments(hands, out, **changes):
    settings = {k: v for k, v in (SETTINGS | changes).items() if k not in ("modalities", "pairs")}
    given = ["--modalities", "joints2d,joints3d", "--data", f"joints:{hands}", "--out", str(out)]
    return ["train", *given, *(part for k, v in settings.items() for part in ("--set", f"{k}={v}"))]


def ended(monkeypatch, capfd, *words):
    """Exit code and standard error of ``cvhpe`` with some words after it."""
    monkeypatch.setattr(sys, "argv", ["cvhpe", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capfd.readouterr().err


@pytest.mark.parametrize(("module", "name"), [(cvhpe.training.calibration, "calibrate"), (scores, "show_results")])
def test_a_signal_after_the_last_step_is_answered_in_one_line(hands, tmp_path, monkeypatch, capfd, module, name):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(module, name, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        code, said = ended(patch, capfd, *arguments(hands, out))
    assert code == 128 + signal.SIGTERM
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"stopped by SIGTERM; {out} holds a usable model; go on with: cvhpe train --resume")
    assert "Traceback" not in said
    # A resumed run is calibrated.
    code, said = ended(monkeypatch, capfd, "train", "--resume", "--out", str(out))
    assert code in (0, None), said
    assert CALIBRATION in read_metadata(out / "model.safetensors")["metadata"]["training"]


@pytest.mark.slow
def test_a_model_that_memory_does_not_hold_is_one_line(hands, tmp_path):
    words = arguments(hands, tmp_path / "run", joint_network="lifter", hidden_dim=16384, num_hidden_layers=8)
    program = LIMITED.format(6 * 2**30)
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().endswith("error: out of memory: a smaller batch_size or grad_accum_steps=2 takes less")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_memory_does_not_hold_is_one_line_and_the_run_goes_on(
    hands, tmp_path, monkeypatch, capfd, workers
):
    out, real, calls = tmp_path / "run", Batches.batch, []

    def batch(self, index):
        calls.append(1)
        if len(calls) == 15:
            raise MemoryError
        return real(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        code, said = ended(patch, capfd, *arguments(hands, out, workers=workers))
    assert code == 2
    assert said.strip().endswith(f"takes less; {out} can go on where there is more (--resume)")
    assert "Traceback" not in said
    code, said = ended(monkeypatch, capfd, "train", "--resume", "--out", str(out))
    assert code in (0, None), said
