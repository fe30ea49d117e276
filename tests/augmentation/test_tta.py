"""Rotated and flipped views of hands, undone on the joints, and the mean over views."""

from __future__ import annotations

import math
from dataclasses import replace

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
    view = replace(View.identity(5), angle=torch.full((5,), angle), flip=torch.full((5,), flip))
    warped = warp_joints(joints, view, Palm(0, 9))
    torch.testing.assert_close(undo_view(warped, angle, flip), joints, atol=1e-5, rtol=1e-5)


def augmentation(rotation, flip):
    return Augmentation(rotation_deg=rotation, flip=flip)


def test_views_stay_in_the_range_of_training():
    assert [round(math.degrees(a)) for a, _ in tta_views(augmentation(180.0, 0.0), 4)] == [0, 90, 180, 270]
    assert [(round(math.degrees(a)), f) for a, f in tta_views(augmentation(45.0, 0.5), 2)] == [
        (-45, False), (-45, True), (45, False), (45, True),
    ]  # fmt: skip
    assert tta_views(augmentation(0.0, 0.5), 4) == [(0.0, False), (0.0, True)]
    with pytest.raises(UserError, match="trained with rotation or flip"):
        tta_views(augmentation(0.0, 0.0), 4)


def test_the_prediction_is_the_mean_over_views_undone(tmp_path):
    run = untrained_run(tmp_path / "run", "joints2d:joints3d")
    hands = fields(12, palm=0.0)
    views = [(0.0, False), (0.7, False), (-0.4, True)]
    options = {"protocol": "TSH", "mean_scale_mm": 30.0, "margin": 1.0, "palm": palm_of("hand21")}
    got = predict(run.model, [hands], "joints2d", views=views, **options)
    predictions = []
    for angle, flip in views:
        c, s = math.cos(angle), math.sin(angle)
        transform = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if flip else 1.0, 1.0])
        inputs = torch.from_numpy(hands["joints2d"].double().numpy() @ transform.T).float()
        side = torch.nn.functional.one_hot(1 - hands["side"] if flip else hands["side"], 2).float()
        with torch.inference_mode():
            joints = run.model.decode("joints3d", run.model.encode("joints2d", inputs, side).mu).double().numpy()
        full = np.eye(3)
        full[:2, :2] = transform
        predictions.append(joints @ np.linalg.inv(full).T)
    expected = np.mean(predictions, 0) * hands["scale_mm"].double().numpy()[:, None, None]
    expected[:, 0] = 0
    np.testing.assert_allclose(got.predicted, expected, atol=1e-3, rtol=1e-4)
    single = predict(run.model, [hands], "joints2d", **options).predicted
    np.testing.assert_allclose(
        single[:, 1:], (predictions[0] * hands["scale_mm"].numpy()[:, None, None])[:, 1:], atol=1e-3
    )
    assert np.abs(single - got.predicted).max() > 1e-3
