"""Hands turned and mirrored before the camera, undone, and the mean of what is predicted of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.label_fields import fields
from helpers.untrained import untrained_run
from hypothesis import given, settings
from hypothesis import strategies as st

from cvhpe.augmentation.tta import tta_views, undo_view
from cvhpe.config.schema import Augmentation
from cvhpe.errors import UserError
from cvhpe.evaluation.evaluate import palm_of, predict
from cvhpe.ops import Palm, warp_joints
from cvhpe.plugin.contract import View


@settings(deadline=None)
@given(angle=st.floats(-4, 4), flip=st.booleans())
def test_a_view_is_undone(angle, flip):
    joints = torch.randn(5, 21, 3, generator=torch.Generator().manual_seed(1))
    still = View.identity(5)
    view = View(torch.full((5,), angle), still.scale, still.shift, torch.full((5,), flip), still.root_shift_weight)
    seen = warp_joints(joints, view, Palm(0, 9))
    torch.testing.assert_close(undo_view(seen, angle, flip), joints, atol=1e-5, rtol=1e-5)


def asked(rotation, flip):
    return Augmentation(rotation_deg=rotation, flip=flip)


def test_hands_are_turned_as_in_training():
    assert [round(math.degrees(a)) for a, _ in tta_views(asked(180.0, 0.0), 4)] == [0, 90, 180, 270]
    assert [(round(math.degrees(a)), f) for a, f in tta_views(asked(45.0, 0.5), 2)] == [
        (-45, False), (-45, True), (45, False), (45, True),
    ]  # fmt: skip
    assert tta_views(asked(0.0, 0.5), 4) == [(0.0, False), (0.0, True)]
    with pytest.raises(UserError, match="trained on hands as they stand"):
        tta_views(asked(0.0, 0.0), 4)


def test_what_is_predicted_of_turned_hands_is_the_mean_of_what_each_says_turned_back(tmp_path):
    run = untrained_run(tmp_path / "run", "joints2d:joints3d")
    hands = fields(12, palm=0.0)
    views = [(0.0, False), (0.7, False), (-0.4, True)]
    said = {"protocol": "TSH", "mean_scale_mm": 30.0, "margin": 1.0, "palm": palm_of("hand21")}
    got = predict(run.model, [hands], "joints2d", views=views, **said)
    each = []
    for angle, flip in views:
        c, s = math.cos(angle), math.sin(angle)
        turn = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if flip else 1.0, 1.0])
        seen = torch.from_numpy(hands["joints2d"].double().numpy() @ turn.T).float()
        side = torch.nn.functional.one_hot(1 - hands["side"] if flip else hands["side"], 2).float()
        with torch.inference_mode():
            joints = run.model.decode("joints3d", run.model.encode("joints2d", seen, side).mu).double().numpy()
        whole = np.eye(3)
        whole[:2, :2] = turn
        each.append(joints @ np.linalg.inv(whole).T)
    want = np.mean(each, 0) * hands["scale_mm"].double().numpy()[:, None, None]
    want[:, 0] = 0
    np.testing.assert_allclose(got.predicted, want, atol=1e-3, rtol=1e-4)
    once = predict(run.model, [hands], "joints2d", **said).predicted
    np.testing.assert_allclose(once[:, 1:], (each[0] * hands["scale_mm"].numpy()[:, None, None])[:, 1:], atol=1e-3)
    assert np.abs(once - got.predicted).max() > 1e-3
