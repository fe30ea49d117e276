"""Packs of a run say what their copies lack, wherever they are trained on or scored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.dataset_writers import write_freihand, write_icvl, write_msra, write_nyu, write_stb
from helpers.untrained import untrained_run

from cvhpe.cli.evaluate import evaluate
from cvhpe.config.schema import checked
from cvhpe.data.datasets.builtin import cvhpe_datasets
from cvhpe.data.packing.prepare import prepare
from cvhpe.training.datamodule import open_data, open_held_out, pack_notes

SPECS = {spec.name: spec for spec in cvhpe_datasets()}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))


def config(*data: str):
    return checked({"modalities": ["joints2d", "joints3d"], "pairs": ["joints2d:joints3d"], "data": list(data)})


def test_what_a_copy_lacks_is_said_of_training_and_test_data_alike(tmp_path) -> None:
    write_stb(tmp_path, np.random.default_rng(1), depth=False)
    (tmp_path / "labels" / "B1Random_BB.mat").unlink()
    for sequence in ("B3Counting", "B5Random"):
        (tmp_path / "labels" / f"{sequence}_BB.mat").unlink()
    data = open_data(config(f"stb:{tmp_path}"))
    said = [
        "stb train is incomplete: 32 of the 30,000 published samples; "
        "lacks labels/B3Counting_BB.mat and 1 more of its label files",
        "stb test is incomplete: 4 of the 6,000 published samples; lacks labels/B1Random_BB.mat",
    ]
    assert data.notes == said
    assert [pack_notes(data.train), pack_notes(data.validation), pack_notes(data.test)] == [
        said[:1],
        said[:1],
        said[1:],
    ]
    # Opened again, a pack has the same notes.
    assert open_data(config(f"stb:{tmp_path}")).notes == said
    assert pack_notes(open_held_out(config(), [f"stb:{tmp_path}"], "test")) == said[1:]


def test_evaluation_says_so_on_stderr_and_in_json(tmp_path, capsys) -> None:
    root = tmp_path / "stb"
    write_stb(root, np.random.default_rng(1), depth=False)
    (root / "labels" / "B1Random_BB.mat").unlink()
    untrained_run(tmp_path / "run", "joints2d:joints3d", data=[f"stb:{root}"])
    capsys.readouterr()
    evaluate(tmp_path / "run", as_json=True)
    out, err = capsys.readouterr()
    assert "stb test 4/4" in err.splitlines()  # what is packed is shown
    said = "stb test is incomplete: 4 of the 6,000 published samples; lacks labels/B1Random_BB.mat"
    assert err.splitlines()[-1] == said
    record = json.loads(out)
    assert record["notes"] == [said]
    assert len(record["frames_within_max_error"]["values"]) == 17
    evaluate(tmp_path / "run")
    out, err = capsys.readouterr()
    assert err == said + "\n"
    assert "frames whose largest error is within: 10 mm " in out


def test_every_reader_that_can_lack_labels_says_which(tmp_path) -> None:
    rng = np.random.default_rng(1)
    write_icvl(tmp_path / "icvl", rng)
    (tmp_path / "icvl/Testing/test_seq_1.txt").unlink()
    write_msra(tmp_path / "msra", rng, frames=1, subjects=[0, 1], gestures=("1", "TIP"))
    write_freihand(tmp_path / "freihand", rng)
    (tmp_path / "freihand/evaluation_xyz.json").unlink()
    lacking = {
        "icvl": "Testing/test_seq_1.txt",
        "msra": "P0/2/joint.txt and 14 more of its label files",
        "freihand": "evaluation_xyz.json",
    }
    for name, what in lacking.items():
        pack = prepare(SPECS[name], tmp_path / name, "test")
        assert pack.note.endswith(f"; lacks {what}"), pack.note


def test_other_views_or_subjects_have_other_counts(tmp_path) -> None:
    write_nyu(tmp_path, np.random.default_rng(1))
    assert prepare(SPECS["nyu"], f"{tmp_path}?views=2", "test").note == ""


def test_a_test_split_without_labels_keeps_nobody_from_training(tmp_path) -> None:
    """FreiHAND's evaluation labels came years after its images; many copies have none."""
    write_freihand(tmp_path, np.random.default_rng(1))
    (tmp_path / "evaluation_xyz.json").unlink()
    data = open_data(config(f"freihand:{tmp_path}"))
    assert data.test == []
    assert f"freihand:{tmp_path}: its test samples have no 3D labels; evaluated on validation samples" in data.notes
    assert any(note.endswith("lacks evaluation_xyz.json") for note in data.notes)
