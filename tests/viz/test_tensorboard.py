"""What a run writes for TensorBoard, read back with TensorBoard's own reader."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from helpers.hands import joints_file

from cvhpe.errors import UserError

pytest.importorskip("tensorboard", reason="tensorboard is not installed")

SMALL = {
    "modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d", "joints3d:joints3d"], "hidden_dim": 16,
    "num_hidden_layers": 1, "epochs": 1, "min_steps": 12, "num_validations": 2, "log_every": 3, "batch_size": 32,
}  # fmt: skip


def run(out, hands, *, resume=False, logger="tensorboard", report=None, **changes):
    from cvhpe.config.schema import checked
    from cvhpe.training.callbacks import Reporter
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.trainer import train
    from cvhpe.viz.tensorboard import add_logger

    config = checked({**SMALL, "data": [f"joints:{hands}"], **changes})
    data = open_data(config)
    with add_logger(report or Reporter(), logger, out, config, data.validation) as reporter:
        train(config, data, out, resume=resume, report=reporter)


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return joints_file(tmp_path_factory.mktemp("hands") / "hands.npz", n=128, held_out=32)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_losses_kl_errors_and_images_are_those_of_the_run(tmp_path, hands):
    from PIL import Image

    run(tmp_path / "run", hands)
    board = events(tmp_path / "run" / "tensorboard")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [r for r in records if r["kind"] == "train"]
    checks = [r for r in records if r["kind"] == "validation"]
    for tag, of, value in (
        ("loss/total", steps, lambda r: r["loss"]),
        ("loss/joints2d-joints3d", steps, lambda r: r["joints2d:joints3d"]),
        ("kl/joints3d", steps, lambda r: r["kl:joints3d"]),
        ("epe_median_mm/joints2d-joints3d", checks, lambda r: r["joints2d:joints3d"]["epe_median_mm"]),
        ("validation/score", checks, lambda r: r["score"]),
    ):
        got = board.Scalars(tag)
        assert [s.step for s in got] == [r["step"] for r in of]
        np.testing.assert_allclose([s.value for s in got], [value(r) for r in of], rtol=1e-6)
    images = board.Images("predictions/joints2d")
    assert [i.step for i in images] == [r["step"] for r in checks]
    first, last = (np.asarray(Image.open(io.BytesIO(i.encoded_image_string))) for i in (images[0], images[-1]))
    assert first.shape == last.shape
    assert (first != last).any(), "training changes the predictions"


def test_logging_does_not_change_the_run(tmp_path, hands):
    from cvhpe.runs.run_dir import load_run

    run(tmp_path / "logged", hands)
    run(tmp_path / "plain", hands, logger="")
    a, b = (load_run(tmp_path / name).model.state_dict() for name in ("logged", "plain"))
    assert all(bool((a[k] == b[k]).all()) for k in a)
    assert not (tmp_path / "plain" / "tensorboard").exists()


def test_a_run_without_3d_joints_has_only_scalars(tmp_path, hands):
    run(tmp_path / "run", hands, modalities=["joints2d"], pairs=["joints2d:joints2d"])
    board = events(tmp_path / "run" / "tensorboard")
    assert board.Tags()["images"] == []
    assert {"loss/joints2d-joints2d", "validation/score"} <= set(board.Tags()["scalars"])


def test_the_reporter_given_is_still_called(tmp_path, hands):
    from cvhpe.training.callbacks import Reporter

    steps = []
    report = Reporter(step=lambda r: steps.append(r["step"]), validation=lambda r: steps.append(-r["step"]))
    run(tmp_path / "run", hands, report=report)
    assert steps == [3, 6, -6, 9, 12, -12]


def test_unknown_loggers_and_a_missing_package_are_one_line(tmp_path, hands, monkeypatch):
    import sys

    with pytest.raises(UserError, match=r"--logger wandb: have: tensorboard"):
        run(tmp_path / "run", hands, logger="wandb")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'cvhpe\[tensorboard\]'"):
        run(tmp_path / "run", hands)
    assert not (tmp_path / "run").exists()
