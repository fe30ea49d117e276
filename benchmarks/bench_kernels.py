"""The operators of a training step against eager PyTorch and torch.compile, on equal inputs and threads.

    pytest benchmarks/bench_kernels.py --benchmark-enable --benchmark-group-by=group

``--benchmark-timer=time.process_time`` measures CPU seconds, which other work on the machine disturbs less. Every peer
gets ``BENCH_THREADS`` threads (default 1). Compare within a group of one run; ``RESULTS.md`` keeps the medians.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cvhpe.ops import ElboTerm, JointsTerm, Palm, elbo, kernel_state, sample_kl, warp_joints
from cvhpe.plugin.contract import View

pytestmark = pytest.mark.skipif(not kernel_state().loaded, reason=kernel_state().reason)
SIZES = [(64, 30), (64, 64), (512, 30), (2048, 64), (8192, 30), (8192, 64)]
PEERS = ["ours", "eager", "compiled"]
THREADS = int(os.environ.get("BENCH_THREADS", "1"))


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def measure(benchmark: Any, group: str, run: Callable[[], Any]) -> None:
    run()  # compiles
    start = time.process_time()
    for _ in range(10):
        run()
    each = (time.process_time() - start) / 10
    iterations = max(1, min(50, int(0.004 / max(each, 1e-6))))
    benchmark.group = group
    benchmark.extra_info.update(
        torch=torch.__version__, threads=torch.get_num_threads(), build=dict(kernel_state().build)
    )
    benchmark.pedantic(run, rounds=40, iterations=iterations, warmup_rounds=3)


def random_seed() -> Tensor:
    return torch.empty(1, dtype=torch.int64).random_()


def eager_sample_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """The usual formula in PyTorch."""
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    return z, -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1)


@pytest.mark.parametrize("shape", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("peer", PEERS)
def test_sample_kl_forward_and_backward(benchmark: Any, shape: tuple[int, int], peer: str) -> None:
    mu, logvar = (torch.randn(shape, requires_grad=True) for _ in range(2))
    upstream = torch.randn(shape), torch.full(shape[:1], 1 / shape[0])
    function = {
        "ours": lambda a, b: sample_kl(a, b, random_seed()),
        "eager": eager_sample_kl,
        "compiled": torch.compile(eager_sample_kl, dynamic=False),
    }[peer]
    measure(
        benchmark,
        f"sample_kl forward+backward {shape[0]}x{shape[1]}",
        lambda: torch.autograd.grad(function(mu, logvar), (mu, logvar), upstream),
    )


@pytest.mark.parametrize("shape", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("peer", PEERS)
def test_sample_kl_forward(benchmark: Any, shape: tuple[int, int], peer: str) -> None:
    mu, logvar = (torch.randn(shape) for _ in range(2))
    function = {
        "ours": lambda a, b: sample_kl(a, b, random_seed()),
        "eager": eager_sample_kl,
        "compiled": torch.compile(eager_sample_kl, dynamic=False),
    }[peer]
    measure(benchmark, f"sample_kl forward {shape[0]}x{shape[1]}", lambda: function(mu, logvar))


def eager_warp(joints: Tensor, view: View, root: int, root_shift_joint: int, relative: bool) -> Tensor:
    """Root shift, root-relative, view: the usual formula in PyTorch, with a matrix product."""
    palm = torch.lerp(joints[:, root], joints[:, root_shift_joint], view.root_shift_weight[:, None])
    joints = torch.cat([palm[:, None], joints[:, 1:]], 1)
    if relative:
        joints = joints - palm[:, None]
    scale = view.scale if joints.shape[2] == 2 else torch.ones_like(view.scale)
    cosine, sine, sign = view.angle.cos() * scale, view.angle.sin() * scale, 1 - 2 * view.flip.float()
    matrix = torch.stack([cosine * sign, -sine, sine * sign, cosine], 1).view(-1, 2, 2)
    plane = joints[..., :2] @ matrix.transpose(1, 2)
    if joints.shape[2] == 2:
        return plane + view.shift[:, None]
    return torch.cat([plane, joints[..., 2:]], -1)


def eager_loss(pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    squares = (pred - target).square() * weight[..., None]
    return squares.sum((1, 2)) / (pred.shape[2] * weight.sum(1))


class LossStep:
    """The loss of three pairs without the decoders: rgb -> 3D, rgb -> 2D, 3D -> 3D.

    The outputs are the loss and the two latent samples, whose upstream gradients stand for those of the decoders; the
    gradients go to predictions and posteriors.
    """

    def __init__(self, rows: int) -> None:
        self.view = View(
            (torch.rand(rows) - 0.5) * math.pi / 2,
            torch.ones(rows),
            0.1 * torch.randn(rows, 2),
            torch.rand(rows) > 0.5,
            torch.full((rows,), 0.5),
        )
        self.preds = [torch.randn(rows, 21, k, requires_grad=True) for k in (3, 2, 3)]
        self.space, self.plane = torch.randn(rows, 21, 3), torch.randn(rows, 21, 2)
        self.weight = (torch.rand(rows, 21) > 0.1).float()
        self.posteriors = [torch.randn(rows, 30, requires_grad=True) for _ in range(4)]
        self.leaves = [*self.preds, *self.posteriors]
        self.upstream = [torch.ones(()), torch.randn(rows, 30), torch.randn(rows, 30)]

    def ours(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        p0, p1, p2, mu0, logvar0, mu1, logvar1 = leaves
        palm = Palm(0, 9)
        z0, kl0 = sample_kl(mu0, logvar0, random_seed())
        z1, kl1 = sample_kl(mu1, logvar1, random_seed())
        terms = [
            ElboTerm(JointsTerm(p0, self.space, self.weight, self.view, palm, relative=True), kl0),
            ElboTerm(JointsTerm(p1, self.plane, self.weight, self.view, palm), kl0),
            ElboTerm(JointsTerm(p2, self.space, self.weight, self.view, palm, relative=True), kl1),
        ]
        return elbo(terms, 0.01).total, z0, z1

    def eager(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        p0, p1, p2, mu0, logvar0, mu1, logvar1 = leaves
        z0, kl0 = eager_sample_kl(mu0, logvar0)
        z1, kl1 = eager_sample_kl(mu1, logvar1)
        space = eager_warp(self.space, self.view, 0, 9, True)
        plane = eager_warp(self.plane, self.view, 0, 9, False)
        total = eager_loss(p0, space, self.weight).mean() + 0.01 * kl0.mean()
        total = total + eager_loss(p1, plane, self.weight).mean() + 0.01 * kl0.mean()
        total = total + eager_loss(p2, space, self.weight).mean() + 0.01 * kl1.mean()
        return total, z0, z1


@pytest.mark.parametrize("rows", [64, 1024])
@pytest.mark.parametrize("peer", PEERS)
def test_loss_step(benchmark: Any, rows: int, peer: str) -> None:
    step = LossStep(rows)
    function = {"ours": step.ours, "eager": step.eager, "compiled": torch.compile(step.eager, dynamic=False)}[peer]
    measure(
        benchmark,
        f"loss step forward+backward, {rows} samples",
        lambda: torch.autograd.grad(function(*step.leaves), step.leaves, step.upstream),
    )


@pytest.mark.parametrize("rows", [64, 8192])
@pytest.mark.parametrize("peer", PEERS)
def test_warp_joints(benchmark: Any, rows: int, peer: str) -> None:
    step = LossStep(rows)

    def eager(joints: Tensor) -> Tensor:
        return eager_warp(joints, step.view, 0, 9, True)

    function = {
        "ours": lambda joints: warp_joints(joints, step.view, Palm(0, 9), True),
        "eager": eager,
        "compiled": torch.compile(eager, dynamic=False),
    }[peer]
    measure(benchmark, f"warp_joints {rows} x 21 x 3", lambda: function(step.space))


@pytest.mark.parametrize("count", [64 * 64, 8192 * 64])
@pytest.mark.parametrize("what", ["copy", "randn", "exp"])
def test_limits(benchmark: Any, count: int, what: str) -> None:
    """What memory and PyTorch's vectorised loops reach on this machine."""
    source, out = torch.randn(count), torch.empty(count)
    run = {"copy": lambda: out.copy_(source), "randn": lambda: out.normal_(), "exp": lambda: torch.exp(source, out=out)}
    measure(benchmark, f"limits, {count} floats", run[what])
