"""sample_kl: kernels against the reference implementation, statistics of the noise, autograd, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cvhpe.ops import sample_kl
from cvhpe.ops.noise import normal, philox
from cvhpe.ops.sample_kl import sample_kl_reference

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def posterior(rows: int, columns: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    mu = torch.randn(rows, columns).to(device, dtype).requires_grad_()
    logvar = (2 * torch.randn(rows, columns)).to(device, dtype).requires_grad_()
    return mu, logvar, torch.tensor([123456789012345], device=device)


def test_philox_gives_the_published_answers() -> None:
    zero = torch.zeros(1, dtype=torch.int64)
    words = [hex(int(w)) for w in philox(zero, zero, zero)]
    assert words == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]


def test_noise_is_standard_normal() -> None:
    e = normal((1 << 16, 4), torch.tensor([7])).double()
    n = e.numel()
    assert abs(e.mean()) < 4 / math.sqrt(n)
    assert abs(e.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((e**4).mean() - 3) < 4 * math.sqrt(96 / n)
    flat = e.flatten()
    for lag in (1, 16, 32, 48, 64):  # neighbours of one Philox block and of the next
        assert abs((flat[:-lag] * flat[lag:]).mean()) < 4 / math.sqrt(n)
    grid = torch.linspace(-3, 3, 25, dtype=torch.float64)
    empirical = (flat[:, None] < grid).double().mean(0)
    assert (empirical - torch.special.ndtr(grid)).abs().max() < 2 / math.sqrt(n)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(0, 30), (1, 1), (64, 30), (5, 64), (7, 65), (2, 2000), (4, 0)])
def test_kernels_equal_the_reference(dtype: torch.dtype, shape: tuple[int, int], device: str) -> None:
    mu, logvar, seed = posterior(*shape, dtype, device)
    results, expected = (f(mu, logvar, seed) for f in (sample_kl, sample_kl_reference))
    upstream = [torch.randn(t.shape).to(t) for t in expected]
    tolerance = TOLERANCE[dtype]
    for a, b in zip(results, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=10 * tolerance, atol=10 * tolerance)
    for used in ([0], [1], [0, 1]):  # an output that nothing uses sends no gradient
        ga, gb = (
            torch.autograd.grad([t[i] for i in used], (mu, logvar), [upstream[i] for i in used], retain_graph=True)
            for t in (results, expected)
        )
        for a, b in zip(ga, gb, strict=True):
            torch.testing.assert_close(a, b, rtol=10 * tolerance, atol=20 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_instruction_set_and_thread_count_gives_the_same_bits(
    cpu_level: str, threads: int, dtype: torch.dtype
) -> None:
    from cvhpe import _C  # type: ignore[attr-defined]

    mu, logvar, seed = posterior(2000, 30, dtype, "cpu")

    def run() -> list[Tensor]:
        z, kl = sample_kl(mu, logvar, seed)
        return [z, kl, *torch.autograd.grad((z, kl), (mu, logvar), (torch.ones_like(z), torch.ones_like(kl)))]

    results = run()
    _C.set_cpu_level("portable")
    torch.set_num_threads(1)
    for a, b in zip(results, run(), strict=True):
        assert torch.equal(a, b)


def test_noise_depends_on_seed_and_index_alone(device: str) -> None:
    mu, logvar, seed = posterior(50, 30, torch.float32, device)
    z, _ = sample_kl(mu, logvar, seed)
    assert not torch.equal(sample_kl(mu, logvar, seed + 1)[0], z)
    assert torch.equal(sample_kl(mu[:20], logvar[:20], seed)[0], z[:20])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_the_cpus_bits() -> None:
    mu, logvar, seed = posterior(100, 30, torch.float32, "cpu")
    for a, b in zip(sample_kl(mu, logvar, seed), sample_kl(mu.cuda(), logvar.cuda(), seed.cuda()), strict=True):
        assert torch.equal(a, b.cpu())


def test_noncontiguous_inputs_and_gradients(device: str) -> None:
    mu, logvar, seed = posterior(30, 40, torch.float32, device)
    a = sample_kl(mu.t(), logvar.t(), seed)
    b = sample_kl(mu.t().contiguous(), logvar.t().contiguous(), seed)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    upstream = torch.ones((), device=device).expand(40, 30)
    grad = torch.autograd.grad(a[0], mu, upstream)[0]
    assert torch.equal(grad, torch.ones_like(grad))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_spread_as_in_the_reference(bad: float, device: str) -> None:
    mu, logvar = torch.zeros(4, 30, device=device), torch.zeros(4, 30, device=device)
    mu[0, 3] = bad
    logvar[2, 7] = bad
    seed = torch.tensor([1], device=device)
    for a, b in zip(sample_kl(mu, logvar, seed), sample_kl_reference(mu, logvar, seed), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logvar", [-200.0, -104.0, -90.0, 88.0, 176.0, 180.0])
def test_extreme_variances_behave_as_in_the_reference(logvar: float, device: str) -> None:
    lv = torch.full((2, 30), logvar, device=device)
    mu, seed = torch.randn(2, 30).to(device), torch.tensor([1], device=device)
    for a, b in zip(sample_kl(mu, lv, seed), sample_kl_reference(mu, lv, seed), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-5)


def test_a_large_variance_does_not_change_the_bits_of_the_others(device: str) -> None:
    """One sigma outside the range of the fast exponential sends a whole block of elements another way."""
    mu, logvar, seed = posterior(64, 30, torch.float32, device)
    large = logvar.detach().clone()
    large[5, 7] = 174.0
    large.requires_grad_()
    results = []
    for lv in (logvar, large):
        z, kl = sample_kl(mu, lv, seed)
        grads = torch.autograd.grad(z.sum() + kl.sum(), (mu, lv))
        results.append((z.detach(), *grads))
    others = torch.ones(64, 30, dtype=torch.bool, device=device)
    others[5, 7] = False
    for a, b in zip(*results, strict=True):
        assert torch.equal(a[others], b[others])
    assert results[1][0].isfinite().all()


def test_gradients_and_registration(device: str) -> None:
    mu, logvar, seed = posterior(3, 5, torch.float32, device)
    doubles = tuple(t.detach().double().requires_grad_() for t in (mu, logvar))
    assert torch.autograd.gradcheck(lambda a, b: sample_kl(a, b, seed), doubles)
    torch.library.opcheck(torch.ops.cvhpe.sample_kl, (mu, logvar, seed))


def test_autograd_rules_are_kept(device: str) -> None:
    mu, logvar, seed = posterior(4, 30, torch.float32, device)
    with torch.no_grad():
        assert sample_kl(mu, logvar, seed)[0].grad_fn is None
    kl = sample_kl(mu.detach(), logvar, seed)[1].sum()
    assert torch.autograd.grad(kl, logvar)[0].isfinite().all()
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(kl, logvar)
    changed = mu * 1
    z = sample_kl(changed, logvar, seed)[0].sum()
    changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()
    with torch.autograd.forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError)):
        sample_kl(torch.autograd.forward_ad.make_dual(mu.detach(), torch.ones_like(mu)), logvar, seed)


def test_compiles_without_a_break_and_agrees(device: str) -> None:
    mu, logvar, seed = posterior(6, 30, torch.float32, device)

    def step(a: Tensor, b: Tensor) -> Tensor:
        z, kl = sample_kl(a, b, seed)
        return (z * z).sum() + kl.sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for a, b in zip(*(torch.autograd.grad(f(mu, logvar), (mu, logvar)) for f in (compiled, step)), strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_leaves_the_dtypes(device: str) -> None:
    mu, logvar, seed = posterior(4, 30, torch.bfloat16, device)
    with torch.autocast(device, torch.bfloat16):
        z, kl = sample_kl(mu, logvar, seed)
    assert z.dtype == torch.bfloat16
    assert kl.dtype == torch.float32


def test_functional_gradients(device: str) -> None:
    mu, logvar, seed = posterior(4, 30, torch.float32, device)
    grad = torch.func.grad(lambda m: sample_kl(m, logvar.detach(), seed)[1].sum())(mu.detach())
    torch.testing.assert_close(grad, mu.detach())


@pytest.mark.parametrize("op", [sample_kl, sample_kl_reference])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mu": torch.zeros(3)}, r"mu: shape \[3\], expected \[B, D\]"),
        ({"logvar": torch.zeros(2, 4)}, r"logvar: shape \[2, 4\], expected that of mu, \[2, 3\]"),
        ({"logvar": torch.zeros(2, 3, dtype=torch.float64)}, "logvar: dtype differs from that of mu"),
        ({"seed": torch.zeros(2, dtype=torch.int64)}, r"seed: shape \[2\], expected an int64 tensor of one element"),
        ({"seed": torch.zeros(1)}, "seed: .* expected an int64 tensor of one element"),
    ],
)
def test_errors_name_the_argument(op, change: dict[str, Tensor], words: str) -> None:  # type: ignore[no-untyped-def]
    arguments = {"mu": torch.zeros(2, 3), "logvar": torch.zeros(2, 3), "seed": torch.tensor([1])} | change
    with pytest.raises(RuntimeError, match=words):
        op(**arguments)
