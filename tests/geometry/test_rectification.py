"""Rotations to the optical axis, and the directions of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvhpe.geometry.camera import intrinsics, project
from cvhpe.geometry.rectification import pixel_rays, rotation_to_axis


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_the_smallest_rotation_takes_a_direction_to_the_axis(x, y):
    direction = np.array([[x, y, 1.0]]) / np.sqrt(x * x + y * y + 1)
    rotation = rotation_to_axis(direction)[0]
    np.testing.assert_allclose(rotation @ direction[0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    assert angle == pytest.approx(np.arccos(direction[0, 2]), abs=1e-6)


def test_points_on_a_ray_project_to_its_pixel():
    K = intrinsics(300.0, 310.0, 160.0, 120.0)
    uv = np.array([[[10.0, 200.0], [160.0, 120.0]]])
    rays = pixel_rays(uv, np.linalg.inv(K)[None])
    np.testing.assert_allclose(project(rays * 450.0, K), uv, atol=1e-9)
