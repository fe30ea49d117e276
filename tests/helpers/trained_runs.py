"""Two trained runs for the tests of figures and reports: one with joints only, one with all modalities."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.hands import joints_file
from helpers.rhd_writer import write_rhd

SMALL = {
    "hidden_dim": 32,
    "num_hidden_layers": 2,
    "min_steps": 12,
    "epochs": 1,
    "num_validations": 3,
    "lr": 1e-3,
    "log_every": 4,
}


@pytest.fixture(scope="session")
def _places(tmp_path_factory):
    """A folder for the packs and fonts of these tests."""
    folder = tmp_path_factory.mktemp("figures")
    old = {k: os.environ.get(k) for k in ("CVHPE_CACHE", "MPLCONFIGDIR")}
    os.environ.update(CVHPE_CACHE=str(folder / "cache"), MPLCONFIGDIR=str(folder / "matplotlib"))
    yield folder
    for key, value in old.items():
        if value is None:
            os.environ.pop(key)
        else:
            os.environ[key] = value


def trained(out: Path, **settings) -> Path:
    from cvhpe.config.schema import checked
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.calibration import calibrate_trained_run
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.trainer import train

    config = checked({**SMALL, **settings})
    data = open_data(config)
    train(config, data, out)
    calibrate_trained_run(load_run(out), config, data)
    return out


@pytest.fixture(scope="session")
def lift(_places) -> Path:
    """A 2D -> 3D run of variant 4: two encoders, two decoders, no images."""
    hands = joints_file(_places / "hands.npz", n=192, held_out=64)
    pairs = ["joints2d:joints3d", "joints2d:joints2d", "joints3d:joints3d"]
    return trained(
        _places / "lift", modalities=["joints2d", "joints3d"], pairs=pairs, data=[f"joints:{hands}"], batch_size=32
    )


@pytest.fixture(scope="session")
def everything(_places) -> Path:
    """A run of all four modalities on RHD in miniature, 24 of whose hands are held out."""
    write_rhd(_places / "rhd", training=8, evaluation=24)
    pairs = [f"{a}:joints3d" for a in ("rgb", "depth", "joints2d", "joints3d")]
    pairs += ["rgb:rgb", "rgb:joints2d", "depth:depth"]
    return trained(
        _places / "everything",
        modalities=["rgb", "depth", "joints2d", "joints3d"],
        pairs=pairs,
        data=[f"rhd:{_places / 'rhd'}"],
        image_size=64,
        batch_size=8,
    )


def opened(path: Path):
    """A run's held-out samples."""
    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_held_out

    run = load_run(path)
    return EvalSet(run, open_held_out(run.config, list(run.config.data), ""))


@pytest.fixture(scope="session")
def held_lift(lift):
    return opened(lift)


@pytest.fixture(scope="session")
def held_everything(everything):
    return opened(everything)
