"""Overlays show the predicted hands where they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.untrained import untrained_run
from PIL import Image

from cvhpe.inference.predict import detection_from, predict_hand
from cvhpe.synthetic import poses
from cvhpe.viz.overlay import overlay, overlay_frame, save_overlay
from cvhpe.viz.style import rasterize

IMAGE = np.full((320, 320, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    run = untrained_run(tmp_path_factory.mktemp("lifter"), "joints2d:joints3d")
    joints = poses(4, 3, left=0)["joints2d_px"].astype(np.float64)
    return [predict_hand(run, None, detection_from(None, 1, uv)) for uv in joints]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_first_three_hands_are_enlarged_and_plotted_in_3d(hands, count):
    figure = overlay(IMAGE, hands[:count], "hand21")
    assert len(figure.axes) == 1 + 2 * min(count, 3)
    axes_3d = [axes for axes in figure.axes if axes.name == "3d"]
    assert len(axes_3d) == min(count, 3)
    for axes in axes_3d:
        assert axes.get_title().startswith("right hand, uncalibrated SD ")


def test_only_calibrated_samples_give_an_uncertainty(hands):
    hand = dataclasses.replace(hands[0], calibrated=True)
    assert overlay(IMAGE, [hand], "hand21").axes[-1].get_title().startswith("right hand, uncertainty ")


def test_joints_are_at_their_pixels(hands):
    (axes, crop, _) = overlay(IMAGE, hands[:1], "hand21").axes
    for shown in (axes, crop):
        np.testing.assert_allclose(np.asarray(shown.collections[-1].get_offsets()), hands[0].joints2d_px, atol=1e-3)
    left, right = crop.get_xlim()
    assert left < hands[0].joints2d_px[:, 0].min()
    assert hands[0].joints2d_px[:, 0].max() < right


def test_all_frames_of_a_video_have_one_size(hands):
    for count in (0, 1, 2):
        frame = overlay_frame(IMAGE, hands[:count], "hand21", (1500, 500))
        assert (frame.shape, frame.dtype) == ((500, 1500, 3), np.uint8)


def test_the_file_is_a_png_of_the_overlay(hands, tmp_path):
    save_overlay(tmp_path / "x.png", IMAGE, hands[:1], "hand21")
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
        saved = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(saved, rasterize(overlay(IMAGE, hands[:1], "hand21")))
