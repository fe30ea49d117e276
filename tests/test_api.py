"""The Python API: prediction, encoding, decoding and interpolation; with a custom detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.untrained import untrained_run
from PIL import Image

import cvhpe
from cvhpe.api import HandModel, load, side_of
from cvhpe.errors import UserError
from cvhpe.inference.hand_detector import Detection, box_around
from cvhpe.plugin.contract import Posterior
from cvhpe.synthetic import poses

UV = poses(1, 3, left=0)["joints2d_px"][0].astype(np.float64)
IMAGE = np.random.default_rng(0).integers(0, 255, (320, 320, 3), np.uint8)


class TwoHands:
    """Detects a small left hand and a large right one in images of more than 160 pixels."""

    name = "two"

    def __call__(self, image):
        if len(image) <= 160:
            return []
        small, large = UV * 0.3, UV
        return [
            Detection(box=box_around(small), side=0, confidence=0.6, joints2d_px=small),
            Detection(box=box_around(large), side=1, confidence=0.9, joints2d_px=large),
        ]


class NoHands:
    name = "blind"

    def __call__(self, image):
        return []


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("lifter"), "joints2d:joints3d", "joints2d:joints2d")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("both"), "rgb:joints3d", "joints2d:joints3d")


def test_load_opens_a_folder_a_file_and_the_bundled_model(lifter):
    for place in (lifter.path, lifter.path / "model.safetensors"):
        model = cvhpe.load(place)
        assert (model.inputs, model.targets) == (("joints2d",), ("joints3d", "joints2d"))
    default = load()
    assert default.inputs == ("joints2d",)
    assert "joints3d" in default.targets
    assert "hand21" in repr(default)


def test_the_default_model_generalises_to_other_synthetic_hands():
    hands = poses(60, 424242)
    model = load("default")
    errors, bones = [], []
    for uv, xyz, left in zip(hands["joints2d_px"], hands["joints3d_mm"], hands["is_left"], strict=True):
        truth = xyz.astype(np.float64)
        bone = np.linalg.norm(truth[10] - truth[9])
        truth[0] = (truth[0] + truth[9]) / 2
        hand = model.predict(joints2d=uv, hand="left" if left else "right", scale_mm=float(bone), samples=0)[0]
        errors.append(np.linalg.norm(hand.joints3d_mm - (truth - truth[0]), axis=1))
        bones.append(bone)
    # the error of the mean pose is about 70 mm
    assert np.median(errors) < 0.75 * np.mean(bones)


def test_hands_are_sorted_by_size_and_have_the_detected_side(lifter):
    model = HandModel(lifter, TwoHands())
    hands = model.predict(IMAGE)
    assert [h.side for h in hands] == [1, 0]
    assert [h.side_confidence for h in hands] == [0.9, 0.6]
    assert model.detector_name == "two"
    assert [h.side for h in model.predict(IMAGE, hand="left")] == [0, 0]
    assert HandModel(lifter, NoHands()).predict(IMAGE) == []


def test_images_are_paths_pil_images_or_arrays(lifter, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "x.png")
    model = HandModel(lifter, TwoHands())
    first = [model.predict(p)[0].joints3d_mm for p in (IMAGE, tmp_path / "x.png", Image.fromarray(IMAGE))]
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])
    with pytest.raises(UserError, match="give uint8"):
        model.predict(IMAGE.astype(np.float32))
    with pytest.raises(UserError, match="give an image"):
        model.predict()


def test_a_box_needs_no_detector_if_the_image_is_the_only_input(both, monkeypatch):
    monkeypatch.setattr("cvhpe.api.mediapipe_detector", lambda *a: pytest.fail("no detector is needed"))
    model = HandModel(both)
    (hand,) = model.predict(IMAGE, bbox=(50, 60, 100, 90), hand="left", inputs=["rgb"])
    assert (hand.inputs, hand.side, model.detector_name) == (("rgb",), 0, None)


def missing(*_):
    raise UserError("hand detection needs MediaPipe")


def test_without_a_detector_a_box_is_predicted_without_joints_and_a_warning(both, lifter, monkeypatch):
    monkeypatch.setattr("cvhpe.api.mediapipe_detector", missing)
    warnings = []
    model = HandModel(both, warn=warnings.append)
    for _ in range(2):
        (hand,) = model.predict(IMAGE, bbox=(50, 60, 100, 90), hand="left")
    assert hand.inputs == ("rgb",)
    assert warnings == ["predicting without 2D joints: hand detection needs MediaPipe"]
    with pytest.raises(UserError, match="MediaPipe"):
        HandModel(lifter).predict(IMAGE, bbox=(50, 60, 100, 90), hand="left")
    with pytest.raises(UserError, match="MediaPipe"):
        model.predict(IMAGE, bbox=(50, 60, 100, 90))


def test_the_detector_searches_the_box(both, lifter):
    warnings = []
    (hand,) = HandModel(both, TwoHands(), warn=warnings.append).predict(IMAGE, bbox=(20, 30, 150, 150), hand="left")
    (warning,) = warnings
    assert warning.startswith("the fusion of rgb and joints2d is not calibrated: equal weights")
    assert hand.inputs == ("rgb", "joints2d")
    assert hand.side == 0
    warnings = []
    (hand,) = HandModel(both, NoHands(), warn=warnings.append).predict(IMAGE, bbox=(20, 30, 150, 150), hand="left")
    assert hand.inputs == ("rgb",)
    assert "no hand is detected in the box" in warnings[0]
    assert HandModel(lifter, NoHands()).predict(IMAGE, bbox=(20, 30, 150, 150), hand="left") == []


def test_encode_decode_interpolate_and_sample(both):
    model = HandModel(both)
    images = torch.rand(3, 3, 64, 64) - 0.5
    a = model.encode("rgb", images, hand="right")
    stored = ((images + 0.5) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    b = model.encode("rgb", stored, hand=[1, 1, 1])
    torch.testing.assert_close(a.mu, b.mu, atol=2e-2, rtol=0)
    single = model.encode("joints2d", torch.rand(21, 2), hand="left")
    assert single.mu.shape == (1, 6)
    line = model.interpolate(single, a.mu[0], 5)
    torch.testing.assert_close(line[2], (single.mu[0] + a.mu[0]) / 2)
    assert model.decode("joints3d", line).shape == (5, 21, 3)
    assert model.decode("joints3d", line[0]).shape == (21, 3)
    assert model.sample(7).shape == (7, 6)
    assert model.decode("joints3d", model.sample(4, a)).shape == (4, 3, 21, 3)
    assert torch.equal(model.sample(2), model.sample(2))
    assert not torch.equal(model.sample(2), model.sample(2, seed=1))


def test_wrong_arguments_are_user_errors(both):
    model = HandModel(both)
    with pytest.raises(UserError, match="encodes no 'joints3d'"):
        model.encode("joints3d", torch.zeros(1, 21, 3))
    with pytest.raises(UserError, match="decodes no 'rgb'"):
        model.decode("rgb", torch.zeros(1, 6))
    with pytest.raises(UserError, match="needs the hand side"):
        model.encode("joints2d", torch.zeros(1, 21, 2))
    with pytest.raises(UserError, match="left or right"):
        side_of("up")
    with pytest.raises(UserError, match="takes latents"):
        model.interpolate(Posterior(torch.zeros(2, 6), torch.zeros(2, 6)), torch.zeros(6))
    with pytest.raises(UserError, match="3 numbers"):
        model.predict(IMAGE, bbox=(1, 2, 3))
