"""warp_joints: geometry by property, kernels against the reference implementation, gradients, errors."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from helpers.drawn_views import draw_view
from hypothesis import given, settings
from hypothesis import strategies as st

from cvhpe.ops import Palm, warp_joints
from cvhpe.ops.view_transform import view_tensors
from cvhpe.ops.warp_joints import warp_joints_reference
from cvhpe.plugin.contract import View

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SHAPES = [(0, 21, 3), (1, 1, 2), (3, 21, 2), (5, 33, 3), (300, 16, 3)]


def one_view(angle: float, scale: float = 1, x: float = 0, y: float = 0, flip: bool = False) -> View:
    angles, scales, shifts = (torch.tensor(v, dtype=torch.float32) for v in ([angle], [scale], [[x, y]]))
    return View(angles, scales, shifts, torch.tensor([flip]), torch.zeros(1))


views = st.builds(one_view, st.floats(-4, 4), st.floats(0.5, 2), st.floats(-1, 1), st.floats(-1, 1), st.booleans())


@settings(max_examples=40, deadline=None)
@given(views, st.floats(-1, 1), st.floats(-1, 1))
def test_a_point_goes_where_the_definition_says(view: View, x: float, y: float) -> None:
    a, s = float(view.angle[0]), float(view.scale[0])
    fx = -x if view.flip[0] else x
    expected = [
        s * (math.cos(a) * fx - math.sin(a) * y) + float(view.shift[0, 0]),
        s * (math.sin(a) * fx + math.cos(a) * y) + float(view.shift[0, 1]),
    ]
    warped = warp_joints(torch.tensor([[[x, y]]]), view)
    torch.testing.assert_close(warped, torch.tensor([[expected]]), atol=2e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(views, st.integers(0, 2**31))
def test_a_hand_keeps_its_shape_in_space(view: View, seed: int) -> None:
    joints = torch.randn(1, 21, 3, generator=torch.Generator().manual_seed(seed))
    warped = warp_joints(joints, view, None)
    torch.testing.assert_close(torch.cdist(warped, warped), torch.cdist(joints, joints), atol=5e-3, rtol=0)
    torch.testing.assert_close(warped[..., 2], joints[..., 2])


@settings(max_examples=30, deadline=None)
@given(views, st.integers(0, 2**31))
def test_a_flip_reverses_the_sense_of_rotation(view: View, seed: int) -> None:
    """Two flips cancel, and F R(a) = R(-a) F."""
    joints = torch.randn(1, 21, 3, generator=torch.Generator().manual_seed(seed))
    flip, angle = one_view(0, flip=True), float(view.angle[0])
    torch.testing.assert_close(warp_joints(warp_joints(joints, flip), flip), joints)
    rotated_then_flipped = warp_joints(warp_joints(joints, one_view(angle)), flip)
    flipped_then_rotated = warp_joints(warp_joints(joints, flip), one_view(-angle))
    torch.testing.assert_close(rotated_then_flipped, flipped_then_rotated, atol=2e-5, rtol=0)


def test_the_palm_is_between_wrist_and_knuckle_and_is_the_origin() -> None:
    joints, view = torch.randn(2, 21, 3), replace(View.identity(2), root_shift_weight=torch.tensor([0.5, 0.0]))
    shifted = warp_joints(joints, view, Palm(0, 9))
    torch.testing.assert_close(shifted[0, 0], (joints[0, 0] + joints[0, 9]) / 2)
    assert torch.equal(shifted[1], joints[1])
    assert torch.equal(shifted[:, 1:], joints[:, 1:])
    relative = warp_joints(joints, view, Palm(0, 9), relative=True)
    torch.testing.assert_close(relative, shifted - shifted[:, :1])
    assert (relative[:, 0] == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_the_reference(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> None:
    view, tolerance = draw_view(shape[0], device), TOLERANCE[dtype]
    joints = torch.randn(shape).to(device, dtype).requires_grad_()
    palm = Palm(0, min(9, shape[1] - 1))
    for with_view, with_palm, relative in itertools.product((False, True), repeat=3):
        arguments = (joints, view if with_view else None, palm if with_palm else None, relative)
        a, b = warp_joints(*arguments), warp_joints_reference(*arguments)
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, atol=5 * tolerance, rtol=5 * tolerance)
        upstream = torch.randn(shape).to(device, dtype)
        ga, gb = (torch.autograd.grad(t, joints, upstream)[0] for t in (a, b))
        torch.testing.assert_close(ga, gb, atol=40 * tolerance, rtol=5 * tolerance)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_spread_as_in_the_reference(bad: float, device: str) -> None:
    joints = torch.randn(3, 21, 2, device=device)
    joints[1, 0, 0] = bad
    for view in (None, draw_view(3, device)):
        torch.testing.assert_close(
            warp_joints(joints, view), warp_joints_reference(joints, view), equal_nan=True, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("relative", [False, True])
def test_gradients_and_registration(width: int, relative: bool, device: str) -> None:
    view, palm = draw_view(2, device), Palm(0, 9)
    joints = torch.randn(2, 11, width, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t: warp_joints(t, view, palm, relative), (joints.detach().double().requires_grad_(),)
    )
    torch.library.opcheck(torch.ops.cvhpe.warp_joints, (joints, *view_tensors(view, palm), relative))


def test_noncontiguous_inputs(device: str) -> None:
    view, joints = draw_view(4, device), torch.randn(4, 42, 3, device=device)[:, ::2]
    strided = View(
        torch.stack([view.angle, view.scale], 1)[:, 0],
        view.scale,
        view.shift.t().contiguous().t(),
        view.flip,
        view.root_shift_weight,
    )
    assert torch.equal(warp_joints(joints, strided), warp_joints(joints.contiguous(), view))


@pytest.mark.parametrize(
    ("joints", "arguments", "words"),
    [
        (torch.zeros(2, 21), (), r"joints: shape \[2, 21\], expected \[B, J, 2\] or \[B, J, 3\]"),
        (torch.zeros(2, 21, 4), (), r"expected \[B, J, 2\] or \[B, J, 3\]"),
        (torch.zeros(2, 21, 2), (draw_view(3),), r"angle: shape \[3\], expected \[2\]"),
        (torch.zeros(2, 5, 2), (None, Palm(0, 9), True), r"palm: joints 0 and 9, expected two of 0 .. 4"),
        (torch.zeros(2, 5, 2, dtype=torch.int32), (), "dtype is not floating point"),
    ],
)
@pytest.mark.parametrize("op", [warp_joints, warp_joints_reference])
def test_errors_name_the_argument(op, joints: torch.Tensor, arguments: tuple, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RuntimeError, match=words):
        op(joints, *arguments)
