"""Overlays show the hands that were predicted, where they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.untrained import untrained_run
from PIL import Image

from cvhpe.inference.predict import found_by_hand, predict_hand
from cvhpe.synthetic import poses
from cvhpe.viz.overlay import overlay, overlay_pixels, save_overlay

PICTURE = np.full((320, 320, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    run = untrained_run(tmp_path_factory.mktemp("lifter"), "joints2d:joints3d")
    drawn = poses(4, 3, left=0)["joints2d_px"].astype(np.float64)
    return [predict_hand(run, None, found_by_hand(None, 1, uv)) for uv in drawn]


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_each_of_the_first_three_hands_is_drawn_near_and_in_3d(hands, count):
    figure = overlay(PICTURE, hands[:count], "hand21")
    assert len(figure.axes) == 1 + 2 * min(count, 3)
    solid = [axes for axes in figure.axes if axes.name == "3d"]
    assert len(solid) == min(count, 3)
    for axes in solid:
        assert axes.get_title().startswith("right hand, samples spread by ")


def test_only_a_calibrated_spread_is_called_an_uncertainty(hands):
    one = dataclasses.replace(hands[0], calibrated=True)
    assert overlay(PICTURE, [one], "hand21").axes[-1].get_title().startswith("right hand, uncertain by ")


def test_skeletons_are_drawn_at_their_pixels(hands):
    (axes, near, _) = overlay(PICTURE, hands[:1], "hand21").axes
    drawn = axes.collections[-1].get_offsets()
    np.testing.assert_allclose(np.asarray(drawn), hands[0].joints2d_px, atol=1e-3)
    left, right = near.get_xlim()
    assert left < hands[0].joints2d_px[:, 0].min()
    assert hands[0].joints2d_px[:, 0].max() < right


def test_frames_of_a_video_have_one_size_whatever_was_found(hands):
    for count in (0, 1, 2):
        pixels = overlay_pixels(PICTURE, hands[:count], "hand21", (1500, 500))
        assert (pixels.shape, pixels.dtype) == ((500, 1500, 3), np.uint8)


def test_the_file_is_a_png_of_what_was_drawn(hands, tmp_path):
    save_overlay(tmp_path / "x.png", PICTURE, hands[:1], "hand21")
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
        saved = np.asarray(image.convert("RGB"))
    drawn = overlay_pixels(PICTURE, hands[:1], "hand21")
    np.testing.assert_array_equal(saved, drawn)
    colours = {tuple(c) for c in saved.reshape(-1, 3)}
    assert (0xE4, 0x57, 0x2E) in colours  # the thumb's
