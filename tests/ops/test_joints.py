"""warp_joints and joints_loss: geometry by property, kernels against the twins, gradients, errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers.drawn_views import draw_view
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvhpe.ops import Palm, joints_loss, warp_joints
from cvhpe.ops.joints_loss import KINDS, joints_loss_twin
from cvhpe.ops.view_transform import parts_of
from cvhpe.ops.warp_joints import warp_joints_twin
from cvhpe.plugin.contract import View

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SHAPES = [(0, 21, 3), (1, 1, 2), (3, 21, 2), (3, 21, 3), (5, 33, 3), (2, 70, 2), (300, 16, 3)]


def one_view(angle: float, scale: float, x: float, y: float, flip: bool, palm: float = 0.0) -> View:
    number = [torch.tensor(v, dtype=torch.float32) for v in ([angle], [scale], [[x, y]], [palm])]
    return View(*number[:3], torch.tensor([flip]), number[3])


views = st.builds(
    one_view, st.floats(-4, 4), st.floats(0.5, 2), st.floats(-1, 1), st.floats(-1, 1), st.booleans(), st.floats(0, 1)
)


@settings(max_examples=40, deadline=None)
@given(views, st.floats(-1, 1), st.floats(-1, 1))
def test_a_point_goes_where_the_definition_says(view: View, x: float, y: float) -> None:
    a, s = float(view.angle[0]), float(view.scale[0])
    fx = -x if view.flip[0] else x
    expected = [
        s * (math.cos(a) * fx - math.sin(a) * y) + float(view.shift[0, 0]),
        s * (math.sin(a) * fx + math.cos(a) * y) + float(view.shift[0, 1]),
    ]
    seen = warp_joints(torch.tensor([[[x, y]]]), view)
    torch.testing.assert_close(seen, torch.tensor([[expected]]), atol=2e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(views, st.integers(0, 2**31))
def test_a_hand_keeps_its_shape_in_space(view: View, seed: int) -> None:
    joints = torch.randn(1, 21, 3, generator=torch.Generator().manual_seed(seed))
    seen = warp_joints(joints, view, None)
    torch.testing.assert_close(torch.cdist(seen, seen), torch.cdist(joints, joints), atol=5e-3, rtol=0)
    torch.testing.assert_close(seen[..., 2], joints[..., 2])


@settings(max_examples=30, deadline=None)
@given(views, st.integers(0, 2**31))
def test_two_mirrors_of_a_turned_hand_are_none(view: View, seed: int) -> None:
    joints = torch.randn(1, 21, 3, generator=torch.Generator().manual_seed(seed))
    mirror = one_view(0, 1, 0, 0, True)
    torch.testing.assert_close(warp_joints(warp_joints(joints, mirror), mirror), joints)
    # mirroring turns the sense of rotation round: F R(a) = R(-a) F
    turn, back = one_view(float(view.angle[0]), 1, 0, 0, False), one_view(-float(view.angle[0]), 1, 0, 0, False)
    a = warp_joints(warp_joints(joints, turn), mirror)
    b = warp_joints(warp_joints(joints, mirror), back)
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_the_palm_is_between_wrist_and_knuckle_and_is_the_origin() -> None:
    joints = torch.randn(2, 21, 3)
    palm = Palm(0, 9, torch.tensor([0.5, 0.0]))
    moved = warp_joints(joints, None, palm)
    torch.testing.assert_close(moved[0, 0], (joints[0, 0] + joints[0, 9]) / 2)
    assert torch.equal(moved[1], joints[1])
    assert torch.equal(moved[:, 1:], joints[:, 1:])
    relative = warp_joints(joints, None, palm, relative=True)
    torch.testing.assert_close(relative, moved - moved[:, :1])
    assert (relative[:, 0] == 0).all()


def test_the_view_says_how_far_the_palm_is_unless_the_palm_does() -> None:
    joints, view = torch.randn(3, 21, 2), draw_view(3)
    own = Palm(0, 9, torch.tensor([1.0, 0.25, 0.0]))
    assert torch.equal(
        warp_joints(joints, view, Palm(0, 9)), warp_joints(joints, view, Palm(0, 9, view.root_shift_weight))
    )
    assert not torch.equal(warp_joints(joints, view, Palm(0, 9)), warp_joints(joints, view, own))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_warp_equals_the_twin(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> None:
    view, tolerance = draw_view(shape[0], device), TOLERANCE[dtype]
    joints = torch.randn(shape).to(device, dtype).requires_grad_()
    root_shift_joint = min(9, shape[1] - 1)
    for with_view, with_palm, relative in itertools.product((False, True), repeat=3):
        arguments = (
            joints,
            view if with_view else None,
            Palm(0, root_shift_joint, view.root_shift_weight) if with_palm else None,
            relative,
        )
        a, b = warp_joints(*arguments), warp_joints_twin(*arguments)
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, atol=5 * tolerance, rtol=5 * tolerance)
        grad = torch.randn(shape).to(device, dtype)
        ga, gb = (torch.autograd.grad(t, joints, grad)[0] for t in (a, b))
        torch.testing.assert_close(ga, gb, atol=40 * tolerance, rtol=5 * tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_equals_the_twin(shape: tuple[int, int, int], dtype: torch.dtype, kind: str, device: str) -> None:
    view, tolerance = draw_view(shape[0], device), TOLERANCE[dtype]
    pred = torch.randn(shape).to(device, dtype).requires_grad_()
    target = torch.randn(shape).to(device)
    weight = (torch.rand(shape[:2]) * (torch.rand(shape[:2]) > 0.3)).to(device)
    weight[:1] = 0
    palm = Palm(0, min(9, shape[1] - 1))
    for weights, relative in itertools.product((None, weight), (False, True)):
        for v in (None, view):
            options = {"kind": kind, "relative": relative, "delta": 0.6}
            a, b = (f(pred, target, weights, v, palm, **options) for f in (joints_loss, joints_loss_twin))
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, atol=5e-6, rtol=5e-6)
            grad = torch.randn(shape[0]).to(a)
            ga, gb = (torch.autograd.grad(t, pred, grad)[0] for t in (a, b))
            torch.testing.assert_close(ga, gb, atol=tolerance, rtol=10 * tolerance)


def test_loss_is_the_same_at_every_level_and_thread_count(cpu_level: str) -> None:
    from cvhpe import _C  # type: ignore[attr-defined]

    view, pred, target = draw_view(700), torch.randn(700, 21, 3, requires_grad=True), torch.randn(700, 21, 3)

    def run() -> tuple[Tensor, Tensor]:
        loss = joints_loss(pred, target, None, view, Palm(0, 9), relative=True)
        return loss, torch.autograd.grad(loss.sum(), pred)[0]

    here, threads = run(), torch.get_num_threads()
    try:
        _C.set_cpu_level("portable")
        for count in (1, 2):
            torch.set_num_threads(count)
            for a, b in zip(here, run(), strict=True):
                assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)


def test_joints_that_do_not_count_do_not_matter(device: str) -> None:
    pred = torch.randn(2, 21, 3, device=device, requires_grad=True)
    target = torch.randn(2, 21, 3, device=device)
    weight = torch.ones(2, 21, device=device)
    weight[0, 5] = 0
    broken = target.clone()
    broken[0, 5] = math.nan
    a, b = joints_loss(pred, target, weight), joints_loss(pred, broken, weight)
    assert torch.equal(a, b)
    assert torch.equal(joints_loss(pred, broken, skip_nan=True), a)
    grad = torch.autograd.grad(b.sum(), pred)[0]
    assert (grad[0, 5] == 0).all()
    assert grad.isfinite().all()
    assert joints_loss(pred, broken)[0].isnan()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_spread_as_in_the_twin(kind: str, bad: float, device: str) -> None:
    pred, target = torch.randn(3, 21, 2, device=device), torch.randn(3, 21, 2, device=device)
    pred[0, 2, 1] = bad
    target[1, 0, 0] = bad
    pred.requires_grad_()
    for view in (None, draw_view(3, device)):
        a, b = (f(pred, target, None, view, kind=kind) for f in (joints_loss, joints_loss_twin))
        torch.testing.assert_close(a, b, equal_nan=True, atol=1e-5, rtol=1e-5)
        ga, gb = (torch.autograd.grad(t.sum(), pred)[0] for t in (a, b))
        torch.testing.assert_close(ga, gb, equal_nan=True, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            warp_joints(target, view), warp_joints_twin(target, view), equal_nan=True, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("relative", [False, True])
def test_gradcheck_and_opcheck(width: int, relative: bool, device: str) -> None:
    view, palm = draw_view(2, device), Palm(0, 9)
    pred, target = (torch.randn(2, 11, width, dtype=torch.float64, device=device, requires_grad=True) for _ in range(2))
    weight = torch.rand(2, 11, device=device)
    assert torch.autograd.gradcheck(lambda t: warp_joints(t, view, palm, relative), (target,))
    torch.library.opcheck(torch.ops.cvhpe.warp_joints, (target, *parts_of(view, palm), relative))
    for index, kind in enumerate(KINDS):
        check = lambda p, t, kind=kind: joints_loss(p, t, weight, view, palm, kind=kind, relative=relative, delta=0.5)  # noqa: E731
        assert torch.autograd.gradcheck(check, (pred, target))
        arguments = (pred, target, weight, *parts_of(view, palm), relative, index, 0.5, False, True)
        torch.library.opcheck(torch.ops.cvhpe.joints_loss, arguments)


def test_compiles_without_a_break_and_agrees(device: str) -> None:
    view, palm = draw_view(4, device), Palm(0, 9)
    pred, target = (torch.randn(4, 21, 3, device=device, requires_grad=True) for _ in range(2))

    def step(p: Tensor, t: Tensor) -> Tensor:
        return joints_loss(p, t, None, view, palm).sum() + warp_joints(t, view, palm).square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for a, b in zip(*(torch.autograd.grad(f(pred, target), (pred, target)) for f in (compiled, step)), strict=True):
        torch.testing.assert_close(a, b)


def test_noncontiguous_inputs(device: str) -> None:
    view = draw_view(4, device)
    pred, target = torch.randn(3, 21, 4, device=device).permute(2, 1, 0), torch.randn(4, 42, 3, device=device)[:, ::2]
    strided = View(
        torch.stack([view.angle, view.scale], 1)[:, 0],
        view.scale,
        view.shift.t().contiguous().t(),
        view.flip,
        view.root_shift_weight,
    )
    a = joints_loss(pred, target, None, strided, Palm(0, 9))
    assert torch.equal(a, joints_loss(pred.contiguous(), target.contiguous(), None, view, Palm(0, 9)))
    assert torch.equal(warp_joints(target, strided), warp_joints(target.contiguous(), view))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, g: f(torch.zeros(2, 21)), r"joints: shape \[2, 21\], expected \[B, J, 2\] or \[B, J, 3\]"),
        (lambda f, g: f(torch.zeros(2, 21, 4)), r"expected \[B, J, 2\] or \[B, J, 3\]"),
        (lambda f, g: f(torch.zeros(2, 21, 2), draw_view(3)), r"angle: shape \[3\], expected \[2\]"),
        (lambda f, g: f(torch.zeros(2, 5, 2), None, Palm(0, 9), True), r"palm: joints 0 and 9, expected two of 0 .. 4"),
        (lambda f, g: f(torch.zeros(2, 5, 2, dtype=torch.int32)), "dtype is not floating point"),
        (
            lambda f, g: g(torch.zeros(2, 5, 2), torch.zeros(2, 4, 2)),
            r"target: shape \[2, 4, 2\], expected that of pred",
        ),
        (
            lambda f, g: g(torch.zeros(2, 5, 2), torch.zeros(2, 5, 2), torch.zeros(2, 4)),
            r"weight: shape \[2, 4\], expected float32 \[2, 5\]",
        ),
        (lambda f, g: g(torch.zeros(2, 5, 2), torch.zeros(2, 5, 2), kind="cubic"), "kind: 'cubic', expected one of"),
    ],
)
@pytest.mark.parametrize("twin", [False, True])
def test_errors_name_the_argument(call, words: str, twin: bool) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RuntimeError, match=words):
        call(warp_joints_twin if twin else warp_joints, joints_loss_twin if twin else joints_loss)
