"""elbo: the loss of a step against its reference implementation and against the formula."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from helpers.drawn_views import draw_view
from torch import Tensor

from cvhpe.ops import ElboTerm, JointsTerm, Palm, elbo, joints_loss, sample_kl, warp_joints
from cvhpe.ops.elbo import elbo_reference


def step(rows: int, dtype: torch.dtype = torch.float32, device: str = "cpu", joints: int = 21) -> Any:
    """Three pairs of two inputs, two of them with a mask: the terms, and the five tensors that get gradients."""
    view = draw_view(rows, device)

    def leaf(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape).to(device, dtype).requires_grad_()

    kl, other = leaf(rows, dtype=torch.float32), leaf(rows, dtype=torch.float32)
    space, plane, image = leaf(rows, joints, 3), leaf(rows, joints, 2), leaf(rows, dtype=torch.float32)
    mask = (torch.rand(rows) > 0.3).to(device)
    weight = torch.rand(rows, joints).to(device)
    targets = [torch.randn(rows, joints, k).to(device) for k in (2, 3)]
    terms = [
        ElboTerm(JointsTerm(space, targets[1], weight, view, Palm(0, 9), relative=True), kl, mask),
        ElboTerm(JointsTerm(plane, targets[0], None, view, Palm(0, 9)), kl, None, 0.7),
        ElboTerm(image, other, mask),
    ]
    return terms, (kl, other, space, plane, image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [0, 1, 5, 64, 700])
def test_kernels_equal_the_reference(rows: int, dtype: torch.dtype, device: str) -> None:
    terms, inputs = step(rows, dtype, device)
    a, b = elbo(terms, 0.3), elbo_reference(terms, 0.3)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, atol=2e-6, rtol=2e-6)
    assert not a.rec.requires_grad
    assert not a.kl.requires_grad
    tolerance = 1e-2 if dtype in (torch.bfloat16, torch.float16) else 2e-6
    for factor in (1, 2.5):
        ga, gb = (torch.autograd.grad(factor * e.total, inputs, retain_graph=True) for e in (a, b))
        for x, y in zip(ga, gb, strict=True):
            torch.testing.assert_close(x, y, atol=tolerance * 0.1, rtol=tolerance)


def test_is_the_formula(device: str) -> None:
    (space, plane, image), (kl, other, *_) = step(6, device=device)
    loss = joints_loss(
        space.rec.pred, space.rec.target, space.rec.weight, space.rec.view, space.rec.palm, relative=True
    )
    rest = joints_loss(plane.rec.pred, plane.rec.target, None, plane.rec.view, plane.rec.palm)
    mask = space.mask
    expected = (
        (loss + 0.25 * kl)[mask].mean() + 0.7 * (rest + 0.25 * kl).mean() + (image.rec + 0.25 * other)[mask].mean()
    )
    torch.testing.assert_close(elbo([space, plane, image], 0.25).total, expected)


def test_samples_outside_the_mask_do_not_matter(device: str) -> None:
    terms, inputs = step(8, device=device)
    without = (~terms[0].mask).nonzero()[0]
    assert without.numel()
    for tensor in (terms[0].rec.pred, terms[0].rec.target, terms[2].rec):
        tensor.data[without] = math.nan
    for f in (elbo, elbo_reference):
        out = f(terms, 0.3)
        assert out.total.isfinite()
        for grad in torch.autograd.grad(out.total, inputs):
            assert grad.isfinite().all()


def test_a_pair_without_samples_adds_nothing(device: str) -> None:
    terms, _ = step(4, device=device)
    none = dataclasses.replace(terms[0], mask=torch.zeros(4, dtype=torch.bool, device=device))
    for f in (elbo, elbo_reference):
        assert f([none], 1.0).total == 0


def test_targets_may_require_gradients(device: str) -> None:
    terms, _ = step(4, device=device)
    terms[0].rec.target.requires_grad_()
    a, b = (torch.autograd.grad(f(terms, 0.3).total, terms[0].rec.target)[0] for f in (elbo, elbo_reference))
    torch.testing.assert_close(a, b)


def test_gradients_and_registration(device: str) -> None:
    terms, inputs = step(3, device=device, joints=11)

    def total(kl: Tensor, other: Tensor, space: Tensor, plane: Tensor, image: Tensor) -> Tensor:
        new = [
            dataclasses.replace(terms[0], rec=dataclasses.replace(terms[0].rec, pred=space), kl=kl),
            dataclasses.replace(terms[1], rec=dataclasses.replace(terms[1].rec, pred=plane), kl=kl),
            dataclasses.replace(terms[2], rec=image, kl=other),
        ]
        return elbo(new, 0.3).total

    doubles = tuple(t.detach().double().requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(total, doubles)
    plan = [1, 2]  # two pairs that are given as losses share one divergence
    for _ in range(2):
        plan += [0, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, -1]
    tensors = [inputs[0], inputs[1], inputs[4]]
    torch.library.opcheck(torch.ops.cvhpe.elbo, (tensors, plan, [0.3, 1.0, 0.7], True))
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    for a, b in zip(*(torch.autograd.grad(f(*inputs), inputs) for f in (compiled, total)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_second_derivative_is_an_error(device: str) -> None:
    terms, (_, _, space, *_) = step(4, device=device)
    for value, leaf, op in (
        (elbo(terms, 0.3).total, space, "elbo"),
        (joints_loss(space, terms[0].rec.target).sum(), space, "joints_loss"),
        (warp_joints(space, terms[0].rec.view).square().sum(), space, "warp_joints"),
        (sample_kl(space[:, 0], space[:, 1], torch.tensor([1], device=device))[1].sum(), space, "sample_kl"),
    ):
        grad = torch.autograd.grad(value, leaf, create_graph=True)[0]
        with pytest.raises(RuntimeError, match=f"{op}: the kernel has no second derivative"):
            (grad * leaf).sum().backward()


def test_two_threads_give_the_bits_of_one(cpu_level: str, threads: int) -> None:
    terms, inputs = step(900)
    results = []
    for count in (threads, 1):
        torch.set_num_threads(count)
        out = elbo(terms, 0.3)
        results.append((*out, *torch.autograd.grad(out.total, inputs)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_a_gradient_changed_in_place_is_detected(device: str) -> None:
    terms, inputs = step(4, device=device)
    total = elbo(terms, 0.3).total
    grads = torch.autograd.grad(total, inputs, retain_graph=True)
    again = torch.autograd.grad(total, inputs, retain_graph=True)
    for a, b in zip(grads, again, strict=True):
        assert torch.equal(a, b)
    if device == "cpu":  # where an upstream gradient of 1 returns the saved tensors themselves
        grads[2].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(total, inputs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_can_be_captured_in_a_cuda_graph() -> None:
    mu, logvar = (torch.randn(64, 30, device="cuda", requires_grad=True) for _ in range(2))
    weights = torch.randn(30, 63, device="cuda", requires_grad=True)
    target, view = torch.randn(64, 21, 3, device="cuda"), draw_view(64, "cuda")

    def training_step() -> Tensor:
        seed = torch.empty(1, dtype=torch.int64, device="cuda").random_()
        z, kl = sample_kl(mu, logvar, seed)
        pred = (z @ weights).view(64, 21, 3)
        total = elbo([ElboTerm(JointsTerm(pred, target, None, view, Palm(0, 9), relative=True), kl)], 0.1).total
        total.backward()
        return total

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            training_step()
    torch.cuda.current_stream().wait_stream(side)
    mu.grad = logvar.grad = weights.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = training_step()
    losses = set()
    for _ in range(3):
        graph.replay()
        losses.add(float(total))
    assert len(losses) == 3  # every replay samples another seed
    assert weights.grad is not None
    assert weights.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kl": torch.zeros(3)}, r"shape \[(3|2|2, 5, 3)\], expected"),
        ({"rec": torch.zeros(2, 2)}, r"rec 0: shape \[2, 2\], expected \[2\]"),
        ({"mask": torch.ones(2)}, r"mask 0: shape \[2\], expected bool \[2\]"),
    ],
)
@pytest.mark.parametrize("f", [elbo, elbo_reference])
def test_errors_name_the_argument(f: Any, change: dict[str, Tensor], words: str) -> None:
    good = ElboTerm(torch.zeros(2), torch.zeros(2))
    with pytest.raises(RuntimeError, match=words):
        f([dataclasses.replace(good, **change)], 1.0)


@pytest.mark.parametrize("f", [elbo, elbo_reference])
def test_no_terms_is_an_error(f: Any) -> None:
    with pytest.raises(RuntimeError, match="none given"):
        f([], 1.0)
