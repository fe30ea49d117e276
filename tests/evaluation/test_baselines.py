"""Baselines against least squares and means in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.label_fields import fields

from cvhpe.evaluation.baselines import baseline_summaries, fit_baselines
from cvhpe.evaluation.evaluate import palm_of
from cvhpe.evaluation.metrics import summary

PALM = palm_of("hand21")


def truth(f):
    xyz = f["xyz"].double().numpy().copy()
    xyz[:, 0] = 0.5 * (xyz[:, 0] + xyz[:, 9])
    return xyz - xyz[:, :1]


@pytest.fixture(scope="module")
def data():
    return fields(), fields(150, seed=9)


def left_flipped(joints: np.ndarray, f) -> np.ndarray:
    out = joints.copy()
    out[f["side"].numpy() == 0, :, 0] *= -1
    return out


@pytest.mark.parametrize("protocol", ["TS", "TSH"])
def test_mean_pose_is_the_training_mean_with_left_hands_flipped_under_h(data, protocol):
    train, test = data
    flip = left_flipped if "H" in protocol else lambda joints, f: joints
    baselines = fit_baselines(train, PALM)
    mean = flip(truth(train) / train["scale_mm"].double().numpy()[:, None, None], train).mean(0)
    summaries = baseline_summaries(baselines, [test], "rgb", (), protocol=protocol, mean_scale_mm=30.0, palm=PALM)
    poses = np.broadcast_to(mean, (150, 21, 3)) * test["scale_mm"].double().numpy()[:, None, None]
    expected = summary(flip(poses, test), truth(test))
    assert list(summaries) == ["mean_pose"]
    assert summaries["mean_pose"].epe_median == pytest.approx(expected.epe_median, abs=1e-3)


def test_mean_bone_length_is_used_without_s(data):
    train, test = data
    baselines = fit_baselines(train, PALM)
    summaries = baseline_summaries(baselines, [test], "rgb", (), protocol="T", mean_scale_mm=30.0, palm=PALM)
    expected = summary(np.broadcast_to(baselines["mean_pose"].numpy() * 30.0, (150, 21, 3)), truth(test))
    assert summaries["mean_pose"].epe_median == pytest.approx(expected.epe_median, abs=1e-3)


@pytest.mark.parametrize("protocol", ["TS", "TSH"])
def test_regression_equals_ridge_regression_and_beats_the_mean_pose(data, protocol):
    train, test = data
    flip = left_flipped if "H" in protocol else lambda joints, f: joints
    baselines = fit_baselines(train, PALM)
    summaries = baseline_summaries(baselines, [test], "joints2d", (), protocol=protocol, mean_scale_mm=30.0, palm=PALM)
    assert summaries["regression"].epe_median < 0.8 * summaries["mean_pose"].epe_median

    def rows(f):
        uv = f["joints2d"].double().numpy().copy()
        uv[:, 0] = 0.5 * (uv[:, 0] + uv[:, 9])
        return np.concatenate([flip(uv, f).reshape(len(uv), -1), np.ones((len(uv), 1))], 1)

    target = flip(truth(train) / train["scale_mm"].double().numpy()[:, None, None], train)
    a = rows(train)
    w = np.linalg.solve(a.T @ a + 1e-4 * len(a) * np.eye(43), a.T @ target.reshape(len(a), -1))
    pred = flip((rows(test) @ w).reshape(-1, 21, 3), test)
    expected = summary(pred * test["scale_mm"].double().numpy()[:, None, None], truth(test))
    assert summaries["regression"].epe_median == pytest.approx(expected.epe_median, rel=1e-3)


def test_samples_without_input_or_truth_do_not_count(data):
    train, test = data
    baselines = fit_baselines(train, PALM)
    part = {**test, "has_joints2d": torch.arange(150) < 100, "has_joints3d": torch.arange(150) >= 20}
    summaries = baseline_summaries(
        baselines, [part], "joints2d", ("joints2d",), protocol="TSH", mean_scale_mm=30.0, palm=PALM
    )
    assert summaries["mean_pose"].frames == 80
