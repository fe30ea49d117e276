"""Predictions against direct calls of the model: the same crop, root and scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.untrained import untrained_run

from cvhpe.errors import UserError
from cvhpe.geometry.camera import crop_around
from cvhpe.inference.hand_detector import Detection, box_around
from cvhpe.inference.predict import Options, check_options, detection_from, predict_hand
from cvhpe.models.fusion import FusionParams
from cvhpe.synthetic import poses
from cvhpe.uncertainty.fusion import Calibration
from cvhpe.uncertainty.sample_scaling import SampleScaling

IMAGE = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)


@pytest.fixture(scope="module")
def uv():
    return poses(1, 3, left=0)["joints2d_px"][0].astype(np.float64)


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("lifter"), "joints2d:joints3d", "joints2d:joints2d")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    how: FusionParams = {"weights": {"rgb": 0.25, "joints2d": 1.0}, "precisions": {}}
    training = {"calibration": Calibration({"joints2d,rgb": how}, {"rgb": SampleScaling(2.0)}, 9).as_dict()}
    return untrained_run(tmp_path_factory.mktemp("both"), "rgb:joints3d", "joints2d:joints3d", training=training)


def call_model(run, uv, side, palm=0.5):
    crop = crop_around(uv, run.config.crop_factor)
    x = crop.fraction(uv)
    x[0] += palm * (x[9] - x[0])
    one_hot = torch.eye(2)[side][None]
    with torch.inference_mode():
        q = run.model.encode("joints2d", torch.tensor(x[None], dtype=torch.float32), one_hot)
        joints = run.model.decode("joints3d", q.mu)[0].numpy() * 30.0
    joints[0] = 0  # the root is the origin
    return joints, crop.pixels(x)


def test_joints_are_normalised_as_in_training(lifter, uv):
    hand = predict_hand(lifter, None, detection_from(None, 1, uv))
    xyz, px = call_model(lifter, uv, 1)
    np.testing.assert_allclose(hand.joints3d_mm, xyz, atol=1e-3)
    np.testing.assert_allclose(hand.joints2d_px, px, atol=1e-2)
    assert (hand.joints2d_from, hand.inputs, hand.side) == ("detector", ("joints2d",), 1)
    assert (hand.scale_mm, hand.scale_from) == (30.0, "training mean")


def test_a_palm_root_is_not_shifted_and_the_side_changes_the_result(lifter, uv):
    hand = predict_hand(lifter, None, detection_from(None, 0, uv, root="palm"))
    np.testing.assert_allclose(hand.joints3d_mm, call_model(lifter, uv, 0, palm=0.0)[0], atol=1e-3)
    other = predict_hand(lifter, None, detection_from(None, 1, uv, root="palm"))
    assert np.abs(other.joints3d_mm - hand.joints3d_mm).max() > 1e-2


def test_joints_of_another_layout_are_reordered(lifter, uv):
    stb = (0, 17, 18, 19, 20, 13, 14, 15, 16, 9, 10, 11, 12, 5, 6, 7, 8, 1, 2, 3, 4)
    shuffled = np.empty_like(uv)
    shuffled[list(stb)] = uv
    one = Detection(box=box_around(uv), side=1, joints2d_px=shuffled, layout="stb", root="wrist")
    np.testing.assert_allclose(predict_hand(lifter, None, one).joints3d_mm, call_model(lifter, uv, 1)[0], atol=1e-3)


def test_the_given_bone_length_scales_the_hand(lifter, uv):
    found = detection_from(None, 1, uv)
    hand, larger = predict_hand(lifter, None, found), predict_hand(lifter, None, found, Options(scale_mm=60.0))
    np.testing.assert_allclose(larger.joints3d_mm, 2 * hand.joints3d_mm, rtol=1e-5)
    np.testing.assert_allclose(larger.uncertainty_mm, 2 * hand.uncertainty_mm, rtol=1e-4)
    assert larger.scale_from == "given"


def test_uncertainty_is_the_spread_of_the_samples(lifter, uv):
    hand = predict_hand(lifter, None, detection_from(None, 1, uv), Options(samples=50))
    away = np.linalg.norm(hand.samples_mm - hand.joints3d_mm, axis=-1)
    np.testing.assert_allclose(hand.uncertainty_mm, np.sqrt((away**2).mean(0)), rtol=1e-4)
    assert hand.samples_mm.shape == (50, 21, 3)
    assert not hand.calibrated
    assert predict_hand(lifter, None, detection_from(None, 1, uv), Options(samples=0)).uncertainty_mm is None


def test_an_image_is_enough_for_a_run_that_encodes_images(both):
    hand = predict_hand(both, IMAGE, detection_from((100, 60, 80, 90), 1))
    assert hand.inputs == ("rgb",)
    assert hand.calibrated
    assert hand.weights == {"rgb": 1.0}
    # the projected joints fill the box
    low, high = hand.joints2d_px.min(0), hand.joints2d_px.max(0)
    np.testing.assert_allclose((low + high) / 2, [139.5, 104.5], atol=0.01)
    assert float((high - low).max()) == pytest.approx(90, abs=0.1)
    assert hand.joints2d_from == "crop"


def test_image_and_joints_are_fused_with_the_calibrated_weights(both, uv):
    found = detection_from(None, 1, uv)
    hand = predict_hand(both, IMAGE, found)
    assert hand.inputs == ("rgb", "joints2d")
    assert hand.weights == {"rgb": 0.25, "joints2d": 1.0}
    one, other = (predict_hand(both, IMAGE, found, Options(inputs=(n,))) for n in ("rgb", "joints2d"))
    a, b = one.posterior, other.posterior
    total = 1 + 0.25 * ((-a.logvar).exp() - 1) + ((-b.logvar).exp() - 1)
    mean = (0.25 * a.mu * (-a.logvar).exp() + b.mu * (-b.logvar).exp()) / total
    torch.testing.assert_close(hand.posterior.mu, mean, atol=1e-5, rtol=1e-4)


def test_fitted_precisions_replace_the_encoders_variances(tmp_path, uv):
    measured = {"rgb": [1.5, 9.0, 2.0, 3.0, 5.0, 4.0], "joints2d": [4.0, 4.0, 8.0, 2.0, 1.2, 3.0]}
    how: FusionParams = {"weights": dict.fromkeys(measured, 1.0), "precisions": measured}
    training = {"calibration": Calibration({"joints2d,rgb": how}, {}, 9).as_dict()}
    run = untrained_run(tmp_path / "run", "rgb:joints3d", "joints2d:joints3d", training=training)
    found = detection_from(None, 1, uv)
    both = predict_hand(run, IMAGE, found).posterior
    a, b = (predict_hand(run, IMAGE, found, Options(inputs=(n,))).posterior for n in measured)
    p, q = (torch.tensor(one) for one in measured.values())
    torch.testing.assert_close(both.mu, (a.mu * p + b.mu * q) / (p + q - 1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.logvar, -(p + q - 1).log()[None])


def test_missing_inputs_are_user_errors(lifter, both, uv):
    box = detection_from((0, 0, 10, 10), 1)
    with pytest.raises(UserError, match="no 2D joints are detected"):
        predict_hand(lifter, IMAGE, box)
    with pytest.raises(UserError, match="--handedness left"):
        predict_hand(lifter, None, detection_from(None, None, uv))
    with pytest.raises(UserError, match="no image"):
        predict_hand(both, None, detection_from(None, 1, uv), Options(inputs=("rgb",)))
    with pytest.raises(UserError, match="did you mean 'joints2d'"):
        check_options(lifter, Options(inputs=("joint2d",)))
    with pytest.raises(UserError, match="length in mm"):
        check_options(lifter, Options(scale_mm=-1.0))
    for wrong in ((0, 0, 0, 5), (0, 0, float("nan"), 5)):
        with pytest.raises(UserError, match="width and height above 0"):
            detection_from(wrong, 1)
    with pytest.raises(UserError, match=r"shape \(20, 2\)"):
        detection_from(None, 1, uv[:20])
    with pytest.raises(UserError, match="no 2D joint is finite"):
        detection_from(None, 1, np.full((21, 2), np.nan))


def test_runs_that_do_not_fit_images_are_user_errors(tmp_path):
    depth = untrained_run(tmp_path / "depth", "depth:joints3d")
    with pytest.raises(UserError, match="which an image does not provide"):
        check_options(depth, Options())
    flat = untrained_run(tmp_path / "flat", "joints2d:joints2d")
    with pytest.raises(UserError, match="needs a run that decodes joints3d"):
        check_options(flat, Options())


def test_a_run_without_s_predicts_the_size_itself(tmp_path, uv):
    run = untrained_run(tmp_path, "joints2d:joints3d", protocol="TH")
    hand = predict_hand(run, None, detection_from(None, 1, uv))
    assert hand.scale_from == "predicted"
    assert hand.scale_mm == pytest.approx(np.linalg.norm(hand.joints3d_mm[10] - hand.joints3d_mm[9]), rel=1e-4)
    with pytest.raises(UserError, match="predicts sizes itself"):
        check_options(run, Options(scale_mm=30.0))


def test_a_run_without_h_needs_no_side(tmp_path, uv):
    run = untrained_run(tmp_path, "joints2d:joints3d", protocol="TS")
    assert predict_hand(run, None, detection_from(None, None, uv)).side is None
