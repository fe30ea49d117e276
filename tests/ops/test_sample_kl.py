"""sample_kl: kernels against the twin and against statistics; the same bits whatever the threads and instructions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cvhpe.ops import draw_seed, extension_loader, sample_kl
from cvhpe.ops.noise import normal, philox
from cvhpe.ops.sample_kl import _SampleKl, sample_kl_twin

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def posterior(rows: int, columns: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    mu = torch.randn(rows, columns).to(device, dtype).requires_grad_()
    logvar = (2 * torch.randn(rows, columns)).to(device, dtype).requires_grad_()
    return mu, logvar, torch.tensor([123456789012345], device=device)


def test_philox_gives_its_authors_answers() -> None:
    zero = torch.zeros(1, dtype=torch.int64)
    assert [hex(int(w)) for w in philox(zero, zero, 0, zero)] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 30), (1, 1), (3, 30), (64, 30), (5, 64), (7, 65), (2, 2000), (4, 0)])
@pytest.mark.parametrize("n", [None, 0, 3])
def test_equals_the_twin(dtype: torch.dtype, shape: tuple[int, int], n: int | None, device: str) -> None:
    mu, logvar, seed = posterior(*shape, dtype, device)
    ours, twin = (f(mu, logvar, seed, n, stream=2) for f in (sample_kl, sample_kl_twin))
    grads = [torch.randn(t.shape).to(t) for t in twin]
    tolerance = TOLERANCE[dtype]
    for a, b in zip(ours, twin, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=10 * tolerance, atol=10 * tolerance)
    ga, gb = (torch.autograd.grad(t, (mu, logvar), grads) for t in (ours, twin))
    for a, b in zip(ga, gb, strict=True):
        torch.testing.assert_close(a, b, rtol=10 * tolerance, atol=20 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_instruction_set_and_thread_count_gives_the_same_bits(cpu_level: str, dtype: torch.dtype) -> None:
    from cvhpe import _C  # type: ignore[attr-defined]

    mu, logvar, seed = posterior(2000, 30, dtype, "cpu")
    z, kl = sample_kl(mu, logvar, seed)
    grads = torch.autograd.grad((z, kl), (mu, logvar), (torch.ones_like(z), torch.ones_like(kl)))
    threads = torch.get_num_threads()
    try:
        _C.set_cpu_level("portable")
        for count in (1, 2):
            torch.set_num_threads(count)
            z2, kl2 = sample_kl(mu, logvar, seed)
            grads2 = torch.autograd.grad((z2, kl2), (mu, logvar), (torch.ones_like(z), torch.ones_like(kl)))
            for a, b in zip((z, kl, *grads), (z2, kl2, *grads2), strict=True):
                assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)


def test_noise_depends_on_seed_stream_and_place_alone(device: str) -> None:
    mu, logvar, seed = posterior(50, 30, torch.float32, device)
    z, _ = sample_kl(mu, logvar, seed)
    many, _ = sample_kl(mu, logvar, seed, 2)
    assert torch.equal(many[0], z)
    assert not torch.equal(many[1], z)
    assert not torch.equal(sample_kl(mu, logvar, seed, stream=1)[0], z)
    assert not torch.equal(sample_kl(mu, logvar, seed + 1)[0], z)
    assert torch.equal(sample_kl(mu[:20], logvar[:20], seed)[0], z[:20])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_draws_the_cpus_noise() -> None:
    mu, logvar, seed = posterior(100, 30, torch.float32, "cpu")
    ours, theirs = sample_kl(mu, logvar, seed), sample_kl(mu.cuda(), logvar.cuda(), seed.cuda())
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b.cpu())


def test_noncontiguous_inputs_and_gradients(device: str) -> None:
    mu, logvar, seed = posterior(30, 40, torch.float32, device)
    a = sample_kl(mu.t(), logvar.t(), seed)
    b = sample_kl(mu.t().contiguous(), logvar.t().contiguous(), seed)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    one = torch.ones((), device=device).expand(40, 30)
    got = torch.autograd.grad(a[0], mu, one)[0]
    assert torch.equal(got, torch.ones_like(got))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_spread_as_in_the_twin(bad: float, device: str) -> None:
    mu, logvar = torch.zeros(4, 30, device=device), torch.zeros(4, 30, device=device)
    mu[0, 3] = bad
    logvar[2, 7] = bad
    seed = torch.tensor([1], device=device)
    for a, b in zip(sample_kl(mu, logvar, seed), sample_kl_twin(mu, logvar, seed), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logvar", [-200.0, -104.0, -90.0, 88.0, 176.0, 180.0])
def test_extreme_variances_behave_as_in_the_twin(logvar: float, device: str) -> None:
    lv = torch.full((2, 30), logvar, device=device)
    mu, seed = torch.randn(2, 30).to(device), torch.tensor([1], device=device)
    for a, b in zip(sample_kl(mu, lv, seed), sample_kl_twin(mu, lv, seed), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-5)


def test_gradcheck_and_opcheck(device: str) -> None:
    mu, logvar, seed = posterior(3, 5, torch.float64, device)
    for n in (None, 2):
        assert torch.autograd.gradcheck(lambda a, b, n=n: sample_kl(a, b, seed, n), (mu, logvar))
        torch.library.opcheck(torch.ops.cvhpe.sample_kl, (mu, logvar, seed, -1 if n is None else n, 0))


def python_node(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    return _SampleKl.apply(mu, logvar, seed, -1, 0)


def cpp_node(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    if not extension_loader.load().nodes:
        pytest.skip(f"no C++ nodes: {extension_loader.load().reason}")
    out: tuple[Tensor, Tensor] = torch.ops.cvhpe.sample_kl(mu, logvar, seed)
    assert out[0].grad_fn is not None
    assert out[0].grad_fn.name() == "SampleKlBackward"
    return out


def test_nodes_in_python_and_cpp_are_the_same(device: str) -> None:
    mu, logvar, seed = posterior(6, 30, torch.float32, device)
    (z, kl), (z2, kl2) = (node(mu, logvar, seed) for node in (python_node, cpp_node))
    assert torch.equal(z, z2)
    assert torch.equal(kl, kl2)
    up = torch.randn(6, 30).to(device), torch.randn(6).to(device)
    for which in ([0], [1], [0, 1]):  # an output that nobody used sends no gradient
        a, b = (
            torch.autograd.grad([t[i] for i in which], (mu, logvar), [up[i] for i in which], retain_graph=True)
            for t in ((z, kl), (z2, kl2))
        )
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_modes_see_both_operators() -> None:
    """The C++ node calls the loops past the dispatcher only where nobody looks."""
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func.name())
            return func(*args, **(kwargs or {}))

    mu, logvar, seed = posterior(6, 30, torch.float32, "cpu")
    with Watch():
        z, kl = cpp_node(mu, logvar, seed)
        watched = torch.autograd.grad((z.sum(), kl.sum()), (mu, logvar))
    assert {"cvhpe::sample_kl", "cvhpe::sample_kl_backward"} <= set(seen)
    z2, kl2 = cpp_node(mu, logvar, seed)
    assert torch.equal(z, z2)
    assert torch.equal(kl, kl2)
    for a, b in zip(watched, torch.autograd.grad((z2.sum(), kl2.sum()), (mu, logvar)), strict=True):
        assert torch.equal(a, b)


def test_a_large_variance_does_not_change_its_neighbours_bits(device: str) -> None:
    """One sigma that needs the exponential of any argument sends a whole piece another way."""
    mu, logvar, seed = posterior(64, 30, torch.float32, device)
    large = logvar.detach().clone()
    large[5, 7] = 174.0
    large.requires_grad_()
    results = []
    for lv in (logvar, large):
        z, kl = sample_kl(mu, lv, seed)
        of_mu, of_logvar = torch.autograd.grad(z.sum() + kl.sum(), (mu, lv))
        results.append((z.detach(), of_mu, of_logvar))
    elsewhere = torch.ones(64, 30, dtype=torch.bool, device=device)
    elsewhere[5, 7] = False
    for a, b in zip(*results, strict=True):
        assert torch.equal(a[elsewhere], b[elsewhere])
    assert results[1][0].isfinite().all()


def test_a_seed_is_what_torch_draws() -> None:
    torch.manual_seed(5)
    ours = [draw_seed(), draw_seed()]
    torch.manual_seed(5)
    assert ours == [torch.empty(1, dtype=torch.int64).random_() for _ in range(2)]


@pytest.mark.parametrize("node", [python_node, cpp_node])
def test_a_node_obeys_autograd(node, device: str) -> None:  # type: ignore[no-untyped-def]
    mu, logvar, seed = posterior(4, 30, torch.float32, device)
    with torch.no_grad():
        assert torch.ops.cvhpe.sample_kl(mu, logvar, seed)[0].grad_fn is None
    kl = node(mu.detach(), logvar, seed)[1].sum()  # one of the two is enough
    assert torch.autograd.grad(kl, logvar)[0].isfinite().all()
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(kl, logvar)
    of_mu, of_logvar = torch.autograd.grad(node(mu, logvar, seed)[1].sum(), (mu, logvar), create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        (of_mu.sum() + of_logvar.sum()).backward()
    moved = mu * 1
    z = node(moved, logvar, seed)[0].sum()
    moved.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()
    with torch.autograd.forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError)):
        node(torch.autograd.forward_ad.make_dual(mu.detach(), torch.ones_like(mu)), logvar, seed)


def test_compiled_autograd_is_told_which_nodes_it_needs() -> None:
    from torch._dynamo import compiled_autograd

    mu, logvar, seed = posterior(2, 3, torch.float32, "cpu")
    loss = cpp_node(mu, logvar, seed)[1].sum()
    with (
        compiled_autograd._enable(torch.compile(backend="eager")),
        pytest.raises(NotImplementedError, match="CVHPE_NODES=python"),
    ):
        loss.backward()


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
    got = torch.func.grad(lambda m: sample_kl(m, logvar.detach(), seed)[1].sum())(mu.detach())
    torch.testing.assert_close(got, mu.detach())


@pytest.mark.parametrize("op", [sample_kl, sample_kl_twin])
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


def test_seeds_follow_the_generator() -> None:
    first, second = (draw_seed(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    generator = torch.Generator().manual_seed(3)
    assert not torch.equal(draw_seed(generator), draw_seed(generator))
