"""Different data sets in one run: their layouts meet in the canonical one, their roots on the palm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.dataset_writers import write_icvl, write_stb
from helpers.rhd_writer import write_rhd

ALL = ("rgb", "depth", "joints2d", "joints3d")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    write_rhd(root / "rhd", training=8, evaluation=3)
    write_stb(root / "stb", np.random.default_rng(0), frames=1)
    write_icvl(root / "icvl", np.random.default_rng(0), train=6)
    return root


def config(*sources: str, modalities=ALL, **more):
    from cvhpe.config.schema import Config

    pairs = tuple(f"{a}:joints3d" for a in modalities) + tuple(f"{a}:{a}" for a in modalities if a != "joints3d")
    return Config(
        modalities=modalities,
        pairs=pairs,
        data=sources,
        image_size=64,
        hidden_dim=16,
        num_hidden_layers=1,
        batch_size=8,
        min_steps=4,
        epochs=1,
        num_validations=1,
        **more,
    )


def test_rhd_and_stb_train_together_on_all_four_modalities(sets, tmp_path, monkeypatch) -> None:
    """One set with colour and depth, one with colour alone: a sample trains what it has."""
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.trainer import train

    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))
    settings = config(f"rhd:{sets}/rhd", f"stb:{sets}/stb", f"stb-sk:{sets}/stb")
    data = open_data(settings)
    assert [set(ALL[:2]) & set(p.image_fields) for p in data.train] == [{"rgb", "depth"}, {"rgb"}, {"rgb", "depth"}]
    assert {p.layout for p in data.train} == {"hand21"}
    # RHD labels the wrist, which moves to the palm; STB labels the palm, which stays.
    assert [np.unique(p["root_shift_weight"]).tolist() for p in data.train] == [[0.5], [0.0], [0.0]]
    train(settings, data, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [v for r in records for k, v in r.items() if k == "loss"]
    assert losses
    assert np.isfinite(losses).all()
    run = load_run(tmp_path / "run")
    assert run.metadata.layout == "hand21"
    assert set(run.model.modalities) == set(ALL)


def test_sixteen_and_twenty_one_joints_refuse_with_a_reason(sets, tmp_path, monkeypatch) -> None:
    from cvhpe.errors import UserError
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.trainer import train

    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))
    settings = config(f"stb-sk:{sets}/stb", f"icvl:{sets}/icvl", modalities=("depth", "joints3d"))
    with pytest.raises(UserError, match=r"(hand21.*icvl16|icvl16.*hand21)"):
        train(settings, open_data(settings), tmp_path / "run")


def test_icvl_is_a_run_of_its_own(sets, tmp_path, monkeypatch) -> None:
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.trainer import train

    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))
    settings = config(f"icvl:{sets}/icvl", modalities=("depth", "joints3d"))
    train(settings, open_data(settings), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.metadata.layout == "icvl16"
    assert run.model.modalities["joints3d"].shape == (16, 3)
