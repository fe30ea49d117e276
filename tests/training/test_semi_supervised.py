"""Few 3D labels: which samples keep theirs, and which a run can still use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.hands import joints_file

from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.data.packing.rectification import rectify_pack
from cvhpe.data.splits import DataSplits
from cvhpe.errors import UserError
from cvhpe.evaluation.evaluate import palm_of, predict, truth_mm
from cvhpe.models.pairs import parse_pairs
from cvhpe.runs.run_dir import load_run
from cvhpe.training.datamodule import open_data
from cvhpe.training.semi_supervised import few_labels, place_at_pixels
from cvhpe.training.trainer import train

LIFT, BOTH = ["joints2d:joints3d"], ["joints2d:joints3d", "joints2d:joints2d"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    path = joints_file(folder / "hands.npz", 240, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))

        def of(pairs, **changes):
            settings = {"modalities": ["joints2d", "joints3d"], "pairs": pairs, "data": [f"joints:{path}"], **changes}
            return open_data(checked(settings))

        yield of


def ids(pack, which):
    return set(pack["id"][which].tolist())


def test_without_a_pair_that_could_use_them_unlabelled_samples_are_left_out(opened):
    few = opened(LIFT, label_fraction=0.1).train[0]
    assert len(few) == 20
    assert few["has_joints3d"].all()
    assert len(ids(few, slice(None))) == 20


def test_with_one_they_stay_and_labelled_ones_are_half(opened):
    few, alone = opened(BOTH, label_fraction=0.1).train[0], opened(LIFT, label_fraction=0.1).train[0]
    has = few["has_joints3d"]
    assert (len(few), int(has.sum())) == (180 + 9 * 20, 180)
    assert ids(few, has) == ids(alone, slice(None))
    assert len(ids(few, ~has)) == 180
    assert np.isnan(few["joints3d_mm"][~has]).all()
    assert (few["scale_mm"][~has] == 1).all()
    assert np.isfinite(few["joints2d"]).all()
    fields = Batches([few], ("joints2d", "joints3d"), 64).arrays()
    assert fields["has_joints2d"].all()
    assert int(fields["has_joints3d"].sum()) == 180


def test_the_seed_alone_says_which_keep_their_labels(opened):
    one, same, other = (opened(LIFT, label_fraction=0.25, seed=s).train[0] for s in (0, 0, 1))
    assert ids(one, slice(None)) == ids(same, slice(None)) != ids(other, slice(None))


def test_all_labels_are_all_samples_and_held_out_ones_keep_theirs(opened):
    whole, few = opened(BOTH), opened(BOTH, label_fraction=0.05)
    assert len(whole.train[0]) == 200
    assert whole.train[0]["has_joints3d"].all()
    assert few.validation[0]["has_joints3d"].all()
    assert len(few.validation[0]) == 40


def labelled_by(run, pack, fraction=0.1):
    return few_labels(pack, fraction, 0, parse_pairs(",".join(LIFT), ["joints2d", "joints3d"]), run)


def small(modalities):
    return checked(
        {"joint_network": "lifter", "hidden_dim": 32, "num_hidden_layers": 2, "modalities": [modalities, "joints3d"],
         "batch_size": 64, "pairs": [f"{modalities}:joints3d"], "epochs": 1, "min_steps": 200, "lr": 3e-3, "device":
         "cpu",
         "threads": 1, "num_validations": 1}
    )  # fmt: skip


@pytest.mark.parametrize("source", ["joints2d", "rays"])
def test_pseudo_labels_project_onto_their_2d_joints(opened, tmp_path, source):
    whole = opened(LIFT).train[0]
    seen = rectify_pack(whole)[0] if source == "rays" else whole
    train(small(source), DataSplits([seen], [seen.limit(20)], []), tmp_path / "run")
    run = load_run(tmp_path / "run")
    K = np.array(whole.arrays["K"])
    K[::3] = np.nan
    partly = replace(whole, arrays={**whole.arrays, "K": K}).subset(np.arange(len(whole)))
    alone, labelled = opened(LIFT, label_fraction=0.1).train[0], labelled_by(run, partly)
    given = ids(labelled, slice(None)) - ids(alone, slice(None))
    assert len(given) > 100
    assert not given & ids(partly, ~np.isfinite(partly["K"]).all((1, 2)))
    home = {name: row for row, name in enumerate(labelled["id"].tolist())}
    rows = labelled.subset(np.array([home[name] for name in sorted(given)]))
    # each joint is seen where its camera projects it, in a crop about what is seen
    xyz = rows["joints3d_mm"].astype(np.float64)
    uv = xyz @ rows["K"].transpose(0, 2, 1)
    uv = uv[..., :2] / uv[..., 2:]
    inside = (np.abs(rows["joints2d"]) < 1).all(-1)
    assert inside.mean() > 0.95
    stored = rows["joints2d"] * rows["crop"][:, None, 2:] + rows["crop"][:, None, :2]
    np.testing.assert_allclose(stored[inside], uv[inside], atol=0.05)
    # the pose is what the run predicts for the sample as it was photographed
    source_of = {name: row for row, name in enumerate(seen["id"].tolist())}
    photographed = seen.subset(np.array([source_of[name] for name in sorted(given)]))
    fields = ("joints2d", "joints3d", "K", "crop")
    batches = Batches([photographed], fields, 256, shuffle=False)
    found = predict(
        run.model, batches.epoch(0), source, protocol="TH", mean_scale_mm=run.metadata.mean_scale_mm,
        margin=batches.margin, palm=palm_of("hand21"),
    )  # fmt: skip
    made = truth_mm(next(Batches([rows], fields, 256, shuffle=False).epoch(0)), palm_of("hand21")).numpy()
    between = [np.linalg.norm(j[:, 1:, None] - j[:, None, 1:], axis=-1) for j in (made, found.predicted)]
    np.testing.assert_allclose(*between, atol=0.05, rtol=1e-3)
    if source == "joints2d":
        np.testing.assert_allclose(made[:, 1:], found.predicted[:, 1:], atol=0.05, rtol=1e-3)


def test_a_hand_is_placed_where_its_pixels_are():
    rng = np.random.default_rng(0)
    K = np.array([[500.0, 0, 160], [0, 480.0, 120], [0, 0, 1]])[None].repeat(6, 0)
    K[5] = np.nan
    true = rng.normal([20, -30, 600], 40, (6, 21, 3))
    uv = true @ np.nan_to_num(K).transpose(0, 2, 1)
    uv = uv[..., :2] / np.where(uv[..., 2:] == 0, 1, uv[..., 2:])
    uv[1, 4] = np.nan
    uv[2, :19] = np.nan
    moved = place_at_pixels(true - [5.0, 7.0, 400.0], uv, K)
    np.testing.assert_allclose(moved[[0, 1, 3, 4]], true[[0, 1, 3, 4]], atol=1e-6)
    assert np.isnan(moved[[2, 5]]).all()


def test_pseudo_labels_are_for_runs_of_joints_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CVHPE_CACHE", str(tmp_path / "cache"))
    asked = {"modalities": ["rgb", "joints3d"], "pairs": ["rgb:joints3d"], "synthetic_count": 20, "image_size": 64}
    with pytest.raises(UserError, match="pseudo_label_run: no image shows the predicted hands"):
        open_data(checked({**asked, "label_fraction": 0.5, "pseudo_label_run": str(tmp_path)}))


def test_a_share_that_leaves_none_is_one_line(opened):
    with pytest.raises(UserError, match=r"label_fraction 0\.001"):
        opened(LIFT, label_fraction=0.001)
