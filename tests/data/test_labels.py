"""Few 3D labels: which samples keep theirs, and which a run can still use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hands import joints_file

from cvhpe.config import checked
from cvhpe.data.labels import few_labels
from cvhpe.data.loader import Batches
from cvhpe.data.rectify import rectified
from cvhpe.data.sources import Data, open_data
from cvhpe.errors import UserError
from cvhpe.evaluate import encode, palm_of, predict, truth_mm
from cvhpe.pairs import parse_pairs
from cvhpe.run import load_run
from cvhpe.swap import Swap
from cvhpe.train import train

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
    few = opened(LIFT, labelled=0.1).train[0]
    assert len(few) == 20
    assert few["has_joints3d"].all()
    assert len(ids(few, slice(None))) == 20


def test_with_one_they_stay_and_labelled_ones_are_half(opened):
    few, alone = opened(BOTH, labelled=0.1).train[0], opened(LIFT, labelled=0.1).train[0]
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
    one, same, other = (opened(LIFT, labelled=0.25, seed=s).train[0] for s in (0, 0, 1))
    assert ids(one, slice(None)) == ids(same, slice(None)) != ids(other, slice(None))


def test_all_labels_are_all_samples_and_held_out_ones_keep_theirs(opened):
    whole, few = opened(BOTH), opened(BOTH, labelled=0.05)
    assert len(whole.train[0]) == 200
    assert whole.train[0]["has_joints3d"].all()
    assert few.validation[0]["has_joints3d"].all()
    assert len(few.validation[0]) == 40


def test_a_teachers_poses_are_shown_in_other_places_only(opened, tmp_path):
    few = opened(LIFT, labelled=0.1).train[0]
    settings = {"modalities": ["joints2d", "joints3d"], "pairs": LIFT, "network": "lifter", "width": 32, "depth": 2}
    config = checked({**settings, "epochs": 1, "least_steps": 5, "device": "cpu", "threads": 1, "validations": 1})
    train(config, Data([few], [few], []), tmp_path / "run")
    run = load_run(tmp_path / "run")
    swapping = {"teacher": str(tmp_path / "run"), "augmentation": {"swap": 0.5}}
    taught = opened(LIFT, labelled=0.1, **swapping).train[0]
    has = ~(taught["K"] == 0).all((1, 2))
    assert taught["has_joints3d"].all()
    assert ids(taught, has) == ids(few, slice(None))
    assert (len(taught), int(has.sum())) == (180 + 9 * 20, 180)
    got = taught.subset(~has)
    batch = Batches([got], ("joints2d", "joints3d"), 256, shuffle=False)
    fields = next(batch.epoch(0))
    # the palm of what is stored is where the run has it, at 0, and everything else where it predicts it
    plain = {**fields, "K": fields["K"] + 1}
    posterior = encode(run.model, plain, ["joints2d"], protocol="TSH", margin=1.5)["joints2d"]
    seen = run.model.decode("joints3d", posterior.mu).detach() * run.facts.mean_scale_mm
    torch.testing.assert_close(truth_mm(fields, palm_of("hand21"))[:, 1:], seen[:, 1:], atol=1e-2, rtol=1e-3)
    everything = Batches([taught], ("joints2d", "joints3d"), 64, seed=0)
    swap = Swap(0.5, everything)
    rows = next(everything.epoch(0))
    new = swap(rows, torch.Generator().manual_seed(0), 64)
    homeless = (rows["K"] == 0).flatten(1).all(1)
    assert homeless.any()
    assert (new["K"][homeless] != 0).flatten(1).any(1).float().mean() > 0.9
    assert not (swap.places["K"] == 0).flatten(1).all(1).any()
    with pytest.raises(UserError, match="teacher"):
        opened(LIFT, labelled=0.1, teacher=str(tmp_path / "run"))


def test_a_teacher_that_knows_cameras_says_nothing_of_hands_without_one(opened, tmp_path):
    rays = checked(
        {"network": "lifter", "width": 32, "depth": 2, "modalities": ["rays", "joints3d"], "pairs": ["rays:joints3d"],
         "epochs": 1, "least_steps": 5, "batch_size": 64, "device": "cpu", "threads": 1, "validations": 1}
    )  # fmt: skip
    whole = opened(LIFT).train[0]
    turned = rectified(whole)
    train(rays, Data([turned], [turned.limit(20)], []), tmp_path / "rays")
    K = np.array(whole.arrays["K"])
    K[whole.rows[::3] if whole.rows is not None else slice(None, None, 3)] = np.nan
    partly = replace(whole, arrays={**whole.arrays, "K": K})
    pairs, run = parse_pairs(",".join(LIFT), ["joints2d", "joints3d"]), load_run(tmp_path / "rays")
    alone, taught = few_labels(partly, 0.1, 0, pairs), few_labels(partly, 0.1, 0, pairs, run)
    given = ids(taught, slice(None)) - ids(alone, slice(None))
    able = rectified(partly)
    assert given == ids(able, able["has_joints2d"]) - ids(alone, slice(None))
    assert not given & ids(partly, ~np.isfinite(partly["K"]).all((1, 2)))
    seen = rectified(whole.subset(np.flatnonzero(np.isin(whole["id"], list(given)))))
    batches = Batches([seen], ("joints2d", "joints3d", "K", "crop"), 256, shuffle=False)
    found = predict(
        run.model, batches.epoch(0), "rays", protocol="TH", mean_scale_mm=run.facts.mean_scale_mm,
        margin=batches.margin, palm=palm_of("hand21"),
    )  # fmt: skip
    home = {name: row for row, name in enumerate(taught["id"].tolist())}
    rows = taught.subset(np.array([home[name] for name in seen["id"].tolist()]))
    assert (rows["K"] == 0).all()
    fields = next(Batches([rows], ("joints2d", "joints3d"), 256, shuffle=False).epoch(0))
    np.testing.assert_allclose(truth_mm(fields, palm_of("hand21"))[:, 1:], found.predicted[:, 1:], atol=1e-2, rtol=1e-3)


def test_a_share_that_leaves_none_is_one_line(opened):
    with pytest.raises(UserError, match=r"labelled 0\.001"):
        opened(LIFT, labelled=0.001)
