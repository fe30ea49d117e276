"""Few 3D labels: which samples keep theirs, and which a run can still use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hands import joints_file

from cvhpe.config import checked
from cvhpe.data.loader import Batches
from cvhpe.data.sources import Data, open_data
from cvhpe.errors import UserError
from cvhpe.evaluate import encode, palm_of, truth_mm
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


def test_a_share_that_leaves_none_is_one_line(opened):
    with pytest.raises(UserError, match=r"labelled 0\.001"):
        opened(LIFT, labelled=0.001)
