"""Baselines and requests, against computations of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.label_fields import fields

from cvhpe.evaluation.evaluate import baseline_summaries, fit_baselines, mirrored, palm_of
from cvhpe.evaluation.metrics import summary


def truth(f):
    xyz = f["xyz"].double().numpy().copy()
    xyz[:, 0] = 0.5 * (xyz[:, 0] + xyz[:, 9])
    return xyz - xyz[:, :1]


@pytest.fixture(scope="module")
def data():
    return fields(), fields(150, seed=9)


def as_right(joints: np.ndarray, f) -> np.ndarray:
    out = joints.copy()
    out[f["side"].numpy() == 0, :, 0] *= -1
    return out


@pytest.mark.parametrize("protocol", ["TS", "TSH"])
def test_the_mean_pose_is_that_of_the_training_hands_mirrored_where_the_side_is_known(data, protocol):
    train, test = data
    seen = as_right if "H" in protocol else lambda joints, f: joints
    found = fit_baselines(train, palm_of("hand21"))
    mean = seen(truth(train) / train["scale_mm"].double().numpy()[:, None, None], train).mean(0)
    got = baseline_summaries(found, [test], "rgb", (), protocol=protocol, mean_scale_mm=30.0, palm=palm_of("hand21"))
    poses = np.broadcast_to(mean, (150, 21, 3)) * test["scale_mm"].double().numpy()[:, None, None]
    want = summary(seen(poses, test), truth(test))
    assert list(got) == ["mean_pose"]
    assert got["mean_pose"].epe_median == pytest.approx(want.epe_median, abs=1e-3)


def test_without_s_the_mean_bone_takes_the_place_of_the_frames_own(data):
    train, test = data
    found = fit_baselines(train, palm_of("hand21"))
    got = baseline_summaries(found, [test], "rgb", (), protocol="T", mean_scale_mm=30.0, palm=palm_of("hand21"))
    want = summary(np.broadcast_to(found["mean_pose"].numpy() * 30.0, (150, 21, 3)), truth(test))
    assert got["mean_pose"].epe_median == pytest.approx(want.epe_median, abs=1e-3)


@pytest.mark.parametrize("protocol", ["TS", "TSH"])
def test_linear_regression_beats_the_mean_pose_and_equals_least_squares(data, protocol):
    train, test = data
    seen = as_right if "H" in protocol else lambda joints, f: joints
    found = fit_baselines(train, palm_of("hand21"))
    palm = palm_of("hand21")
    got = baseline_summaries(found, [test], "joints2d", (), protocol=protocol, mean_scale_mm=30.0, palm=palm)
    assert got["regression"].epe_median < 0.8 * got["mean_pose"].epe_median

    def rows(f):
        uv = f["joints2d"].double().numpy().copy()
        uv[:, 0] = 0.5 * (uv[:, 0] + uv[:, 9])
        return np.concatenate([seen(uv, f).reshape(len(uv), -1), np.ones((len(uv), 1))], 1)

    target = seen(truth(train) / train["scale_mm"].double().numpy()[:, None, None], train)
    a = rows(train)
    w = np.linalg.solve(a.T @ a + 1e-4 * len(a) * np.eye(43), a.T @ target.reshape(len(a), -1))
    pred = seen((rows(test) @ w).reshape(-1, 21, 3), test)
    want = summary(pred * test["scale_mm"].double().numpy()[:, None, None], truth(test))
    assert got["regression"].epe_median == pytest.approx(want.epe_median, rel=1e-3)


def test_samples_that_lack_the_input_or_the_truth_are_left_out(data):
    train, test = data
    found = fit_baselines(train, palm_of("hand21"))
    part = {**test, "has_joints2d": torch.arange(150) < 100, "has_joints3d": torch.arange(150) >= 20}
    got = baseline_summaries(
        found, [part], "joints2d", ("joints2d",), protocol="TSH", mean_scale_mm=30.0, palm=palm_of("hand21")
    )
    assert got["mean_pose"].frames == 80


def test_a_mirror_image_negates_x_alone():
    x = torch.randn(3, 5, 3)
    m = mirrored(x, torch.tensor([True, False, True]))
    torch.testing.assert_close(m[0], x[0] * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(m[1], x[1])
