"""Synthetic images: the sphere tracer against the distance field in float64, and images against their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvhpe.synthetic.cameras import CameraRanges
from cvhpe.synthetic.frames import FRAME_CAMERAS, LabelledFrame, render_frames, scale_cameras
from cvhpe.synthetic.light import capsule_shadow
from cvhpe.synthetic.render import FIRST_LEFT, FIRST_RIGHT
from cvhpe.synthetic.rhd_writer import TO_RHD
from cvhpe.synthetic.sampling import sample_hands
from cvhpe.synthetic.sphere_tracing import Camera, trace
from cvhpe.synthetic.surface import Body, Flesh, hand_bodies, stick

SIZE = 160


def blended(body: Body, points: np.ndarray) -> np.ndarray:
    """The distance field that defines a body, float64, at points [N, 3]."""
    a, b = body.a.astype(np.float64), body.b.astype(np.float64)
    axis = b - a
    h = np.clip(((points[:, None] - a) * axis).sum(2) / (axis * axis).sum(1), 0, 1)
    d = np.linalg.norm(points[:, None] - a - h[..., None] * axis, axis=2) - body.ra - h * (body.rb - body.ra)
    return -body.blend * np.log(np.exp(-d / body.blend).sum(1))


@pytest.fixture(scope="module")
def frames() -> list[LabelledFrame]:
    return render_frames(np.arange(16), 11, "training", SIZE)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_rays_end_on_the_surface_and_not_in_front_of_it(seed: int) -> None:
    placed = sample_hands(np.arange(1), seed, proportions=0.5, cameras=scale_cameras(FRAME_CAMERAS, SIZE), size=SIZE)
    K = placed.K[0]
    camera = Camera(K[0, 0], (K[0, 2], K[1, 2]), SIZE)
    made = hand_bodies(placed.joints[0], placed.axes[0], placed.back[0], placed.length[0], Flesh())
    hits = trace(made, camera)
    x, y = hits.pixel % SIZE, hits.pixel // SIZE
    point = hits.point.astype(np.float64)
    # Each point projects on its own pixel.
    assert np.abs(point[0] / point[2] * K[0, 0] + K[0, 2] - x).max() < 1e-2
    assert np.abs(point[1] / point[2] * K[1, 1] + K[1, 2] - y).max() < 1e-2
    assert np.allclose(np.linalg.norm(hits.normal, axis=0), 1, atol=1e-3)
    pixel_mm = hits.z / K[0, 0]
    bad = early = total = 0
    for number, body in enumerate(made):
        of = (hits.body == number) & (hits.cover > 0.95)
        if not of.any():
            continue
        p = point[:, of].T
        off = np.abs(blended(body, p)) / pixel_mm[of]
        bad, total = bad + int((off > 0.6).sum()), total + len(off)
        before = np.concatenate([blended(body, p * share)[None] for share in np.linspace(0.5, 0.985, 12)])
        early += int((before.min(0) < -0.5).sum())
        # The normal is the distance's gradient.
        step = 0.05
        gradient = np.stack([blended(body, p + e) - blended(body, p - e) for e in step * np.eye(3)], 1)
        gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
        assert np.median((gradient * hits.normal[:, of].T).sum(1)) > 0.995
    assert total > 300
    assert bad < 0.02 * total
    assert early < 0.01 * total


def test_a_ball_is_a_ball() -> None:
    """A sphere of 40 mm at 500 mm: its outline, depth and normals are known in closed form."""
    centre, radius, focal = np.array([12.0, -8.0, 500.0]), 40.0, 300.0
    hits = trace([stick(centre, centre + np.array([1e-3, 0, 0]), radius)], Camera(focal, (80, 80), SIZE))
    y, x = np.mgrid[:SIZE, :SIZE]
    rays = np.stack([(x - 80) / focal, (y - 80) / focal, np.ones((SIZE, SIZE))], 2).reshape(-1, 3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    along = rays @ centre
    inside = radius**2 - (centre @ centre - along**2)
    # The soft minimum of labelled capsule is the capsule.
    solid = hits.pixel[hits.cover >= 0.8]
    assert (inside[solid] > -80).all()  # 1 mm or 0.6 px outside at most
    clear = np.flatnonzero(inside > 100)
    assert np.isin(clear, solid).all()
    of = np.isin(hits.pixel, clear)
    t = along[hits.pixel[of]] - np.sqrt(inside[hits.pixel[of]])
    off = np.abs(t * rays[hits.pixel[of], 2] - hits.z[of])
    assert np.quantile(off, 0.95) < 0.1
    assert off.max() < 2.5  # where the surface is seen edge on
    normal = (rays[hits.pixel[of]] * t[:, None] - centre) / radius
    assert np.quantile(np.abs(normal - hits.normal[:, of].T), 0.95) < 0.01
    assert (normal * hits.normal[:, of].T).sum(1).min() > 0.98


def test_bodies_behind_the_camera_or_out_of_sight_are_not_hit() -> None:
    camera = Camera(300, (80, 80), SIZE)
    for centre in ([0, 0, -500.0], [900.0, 0, 500.0]):
        at = np.array(centre)
        assert len(trace([stick(at, at + np.array([0, 30, 0]), 20)], camera).pixel) == 0
    through = trace([stick(np.array([0, 0, 400.0]), np.array([30.0, 0, -400.0]), 20)], camera)
    assert np.isfinite(through.point).all()


def test_shadows_fall_behind_their_capsule() -> None:
    a, b, radius = np.array([[-50.0, 0, 400]]), np.array([[50.0, 0, 400]]), np.array([10.0])
    point = np.array([[0.0, 0, 500], [0, 60, 500], [0, 0, 300], [200, 0, 500]]).T.astype(np.float32)
    lit = capsule_shadow(point, *(v.astype(np.float32) for v in (a, b, radius)), np.array([0, 0, -1], np.float32), 0.1)
    assert lit[0] < 0.2
    assert lit[1:] == pytest.approx(1)


def hands_of(labelled: LabelledFrame) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """side, xyz mm and uv_vis in hand21 order of both hands."""
    out = []
    for side in range(2):
        of = slice(21 * side, 21 * side + 21)
        xyz, uv = labelled.annotation["xyz"][of], labelled.annotation["uv_vis"][of]
        out.append((side, xyz[TO_RHD] * 1000, uv[TO_RHD]))  # the order is its own inverse
    return out


def test_2d_labels_are_the_projections_of_3d_labels(frames: list[LabelledFrame]) -> None:
    for labelled in frames:
        xyz, uv, K = (labelled.annotation[k].astype(np.float64) for k in ("xyz", "uv_vis", "K"))
        assert (xyz.shape, uv.shape, K.shape) == ((42, 3), (42, 3), (3, 3))
        projected = (xyz @ K.T)[:, :2] / xyz[:, 2:]
        assert np.abs(projected - uv[:, :2]).max() < 0.02 * SIZE / 160
        assert set(np.unique(uv[:, 2])) <= {0.0, 1.0}


def test_images_fit_their_labels(frames: list[LabelledFrame]) -> None:
    """A visible joint lies behind the depth of its own flesh; the part of a visible fingertip is that finger's end."""
    tips = right_part = visible_joints = 0
    for labelled in frames:
        depth, mask = labelled.frame.depth, labelled.frame.mask
        for side, xyz, uv in hands_of(labelled):
            first = (FIRST_LEFT, FIRST_RIGHT)[side]
            x, y = np.round(uv[:, :2]).astype(int).T
            visible = uv[:, 2] > 0.5
            assert (((x[visible] >= 0) & (x[visible] < SIZE)) & ((y[visible] >= 0) & (y[visible] < SIZE))).all()
            gap = xyz[visible, 2] - depth[y[visible], x[visible]]
            assert (gap < 50).all()
            visible_joints += int(visible.sum())
            for finger in range(5):
                tip = 4 + 4 * finger
                if visible[tip]:
                    tips += 1
                    right_part += int(mask[y[tip], x[tip]] == first + 3 * finger)
    assert visible_joints > 150
    assert tips > 30
    assert right_part > 0.75 * tips


def test_every_frame_shows_a_hand_and_some_show_two(frames: list[LabelledFrame]) -> None:
    sides = [
        {side for side, first in enumerate((FIRST_LEFT, FIRST_RIGHT)) if ((m >= first) & (m < first + 16)).sum() > 20}
        for m in (labelled.frame.mask for labelled in frames)
    ]
    assert all(sides)
    assert {frozenset(s) for s in sides} == {frozenset({0}), frozenset({1}), frozenset({0, 1})}
    for labelled, shown in zip(frames, sides, strict=True):
        frame = labelled.frame
        assert frame.rgb.shape == (SIZE, SIZE, 3)
        assert (frame.rgb.dtype, frame.mask.dtype, frame.depth.dtype) == (np.uint8, np.uint8, np.float32)
        assert frame.mask.max() <= 33
        assert 0 < frame.depth.min() < frame.depth.max()
        assert frame.rgb.std() > 5
        for side, xyz, uv in hands_of(labelled):
            if side not in shown and not uv[:, 2].any():
                continue
            assert uv[:, 2].any()
            assert (xyz[:, 2] > 0).all()


def test_the_hand_that_is_not_shown_is_beside_the_frame(frames: list[LabelledFrame]) -> None:
    absent = 0
    for labelled in frames:
        for _side, xyz, uv in hands_of(labelled):
            inside = ((uv[:, :2] >= 0) & (uv[:, :2] <= SIZE - 1)).all(1)
            if not inside.any():
                absent += 1
                assert not uv[:, 2].any()
                assert (xyz[:, 2] > 0).all()
    assert absent > 5


def test_a_frame_depends_on_seed_split_and_number_alone(frames: list[LabelledFrame]) -> None:
    alone = render_frames(np.array([5]), 11, "training", SIZE)[0]
    for name in ("rgb", "depth", "mask"):
        assert np.array_equal(getattr(alone.frame, name), getattr(frames[5].frame, name)), name
    assert all(np.array_equal(alone.annotation[k], frames[5].annotation[k]) for k in alone.annotation)
    for seed, split in ((12, "training"), (11, "evaluation")):
        other = render_frames(np.array([5]), seed, split, SIZE)[0]
        assert not np.array_equal(other.annotation["xyz"], alone.annotation["xyz"])


def test_a_smaller_frame_shows_the_same_hand() -> None:
    small, large = (render_frames(np.array([3]), 4, "training", size)[0] for size in (160, 320))
    assert np.allclose(small.annotation["xyz"], large.annotation["xyz"], atol=1e-5)
    assert np.allclose(small.annotation["K"][:2] * 2, large.annotation["K"][:2], rtol=1e-5)
    assert scale_cameras(CameraRanges(shift_px=None), 160).shift_px is None
