"""Few 3D labels: which samples keep theirs, and which a run can still use."""

from __future__ import annotations

import numpy as np
import pytest
from hands import joints_file

from cvhpe.config import checked
from cvhpe.data.loader import Batches
from cvhpe.data.sources import open_data
from cvhpe.errors import UserError

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


def test_a_share_that_leaves_none_is_one_line(opened):
    with pytest.raises(UserError, match=r"labelled 0\.001"):
        opened(LIFT, labelled=0.001)
