"""joints_loss: kernels against the reference implementation, gradients, weights, errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers.drawn_views import draw_view
from torch import Tensor

from cvhpe.ops import Palm, joints_loss, warp_joints
from cvhpe.ops.joints_loss import joints_loss_reference
from cvhpe.ops.view_transform import view_tensors

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SHAPES = [(0, 21, 3), (1, 1, 2), (3, 21, 2), (3, 21, 3), (5, 33, 3), (2, 70, 2), (300, 16, 3)]


def test_is_the_mean_over_labelled_coordinates(device: str) -> None:
    pred, target = torch.randn(4, 21, 3, device=device), torch.randn(4, 21, 3, device=device)
    weight, view = torch.rand(4, 21, device=device), draw_view(4, device)
    squares = (pred - warp_joints(target, view, Palm(0, 9), relative=True)).square().sum(2)
    expected = (weight * squares).sum(1) / (3 * weight.sum(1))
    torch.testing.assert_close(joints_loss(pred, target, weight, view, Palm(0, 9), relative=True), expected)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_the_reference(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> None:
    tolerance, palm = TOLERANCE[dtype], Palm(0, min(9, shape[1] - 1))
    pred = torch.randn(shape).to(device, dtype).requires_grad_()
    target = torch.randn(shape).to(device)
    weight = (torch.rand(shape[:2]) * (torch.rand(shape[:2]) > 0.3)).to(device)
    weight[:1] = 0
    for w, relative, view in itertools.product((None, weight), (False, True), (None, draw_view(shape[0], device))):
        a, b = (f(pred, target, w, view, palm, relative=relative) for f in (joints_loss, joints_loss_reference))
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, atol=5e-6, rtol=5e-6)
        upstream = torch.randn(shape[0]).to(a)
        ga, gb = (torch.autograd.grad(t, pred, upstream)[0] for t in (a, b))
        torch.testing.assert_close(ga, gb, atol=tolerance, rtol=10 * tolerance)


def test_every_instruction_set_and_thread_count_gives_the_same_bits(cpu_level: str, threads: int) -> None:
    from cvhpe import _C  # type: ignore[attr-defined]

    view, pred, target = draw_view(700), torch.randn(700, 21, 3, requires_grad=True), torch.randn(700, 21, 3)

    def run() -> tuple[Tensor, Tensor]:
        loss = joints_loss(pred, target, None, view, Palm(0, 9), relative=True)
        return loss, torch.autograd.grad(loss.sum(), pred)[0]

    results = run()
    _C.set_cpu_level("portable")
    torch.set_num_threads(1)
    for a, b in zip(results, run(), strict=True):
        assert torch.equal(a, b)


def test_joints_of_weight_zero_do_not_matter(device: str) -> None:
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


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_spread_as_in_the_reference(bad: float, device: str) -> None:
    pred, target = torch.randn(3, 21, 2, device=device), torch.randn(3, 21, 2, device=device)
    pred[0, 2, 1] = bad
    target[1, 0, 0] = bad
    pred.requires_grad_()
    for view in (None, draw_view(3, device)):
        a, b = (f(pred, target, None, view) for f in (joints_loss, joints_loss_reference))
        torch.testing.assert_close(a, b, equal_nan=True, atol=1e-5, rtol=1e-5)
        ga, gb = (torch.autograd.grad(t.sum(), pred)[0] for t in (a, b))
        torch.testing.assert_close(ga, gb, equal_nan=True, atol=1e-5, rtol=1e-5)


def test_gradients_and_registration(device: str) -> None:
    view, palm = draw_view(2, device), Palm(0, 9)
    pred, target = (torch.randn(2, 11, 3, device=device, requires_grad=True) for _ in range(2))
    weight = torch.rand(2, 11, device=device)
    doubles = tuple(t.detach().double().requires_grad_() for t in (pred, target))
    assert torch.autograd.gradcheck(lambda p, t: joints_loss(p, t, weight, view, palm, relative=True), doubles)
    a, b = (
        torch.autograd.grad(f(pred, target, weight, view, palm, relative=True).sum(), (pred, target))
        for f in (joints_loss, joints_loss_reference)
    )
    torch.testing.assert_close(a, b)
    torch.library.opcheck(
        torch.ops.cvhpe.joints_loss, (pred, target, weight, *view_tensors(view, palm), True, False, True)
    )


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
    a = joints_loss(pred, target, None, view, Palm(0, 9))
    assert torch.equal(a, joints_loss(pred.contiguous(), target.contiguous(), None, view, Palm(0, 9)))


@pytest.mark.parametrize(
    ("target", "weight", "words"),
    [
        (torch.zeros(2, 4, 2), None, r"target: shape \[2, 4, 2\], expected that of pred"),
        (torch.zeros(2, 5, 2), torch.zeros(2, 4), r"weight: shape \[2, 4\], expected float32 \[2, 5\]"),
    ],
)
@pytest.mark.parametrize("op", [joints_loss, joints_loss_reference])
def test_errors_name_the_argument(op, target: Tensor, weight: Tensor | None, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RuntimeError, match=words):
        op(torch.zeros(2, 5, 2), target, weight)
