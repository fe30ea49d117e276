"""Reparameterised sample of a diagonal Gaussian posterior and its KL divergence, in one pass (paper section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from cvhpe.ops import extension_loader
from cvhpe.ops.noise import normal


def draw_seed(generator: Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
    """A fresh seed for :func:`sample_kl`: int64 ``[1]`` on ``device``, without a word to the host.

    generator: on ``device``; torch's own where None.

    >>> a, b = (draw_seed(torch.Generator().manual_seed(7)) for _ in range(2))
    >>> bool(a == b)
    True
    """
    if generator is None and device == "cpu" and _draw is not None and not torch.compiler.is_compiling():
        return _draw()
    return torch.empty(1, dtype=torch.int64, device=device).random_(generator=generator)


def sample_kl(
    mu: Tensor, logvar: Tensor, seed: Tensor, n: int | None = None, *, stream: int = 0
) -> tuple[Tensor, Tensor]:
    """Sample ``z = mu + exp(logvar / 2) * noise`` and ``KL(N(mu, exp(logvar)) || N(0, I))`` of every row.

    mu, logvar: ``[B, D]`` float32, float64, bfloat16 or float16, both the same.
    seed: int64, one element, on the device of ``mu`` (:func:`draw_seed`). Same seed, same noise: on CPU and GPU, on
        any number of threads, and in backward, where it is made again rather than kept.
    n: number of samples of every posterior; None for one without an axis of its own.
    stream: which of the independent noises of one seed (0 .. 2^32 - 1), e.g. one for each modality of a step.

    Returns ``z`` ``[B, D]``, or ``[n, B, D]``, in the dtype of ``mu``, and ``kl = sum_d (mu^2 + sigma^2 - 1 -
    logvar) / 2`` ``[B]`` in float32 (float64 for float64). Under autocast the dtypes of the inputs stay as they are.

    Raises RuntimeError for shapes, dtypes or devices that do not fit, naming the argument.

    >>> mu = torch.zeros(2, 3)
    >>> z, kl = sample_kl(mu, mu, torch.tensor([1]))
    >>> z.shape, kl
    (torch.Size([2, 3]), tensor([0., 0.]))
    """
    if extension_loader.transformed() or not extension_loader.serves(mu.device.type):
        return sample_kl_twin(mu, logvar, seed, n, stream=stream)
    samples = -1 if n is None else n
    if extension_loader.load().nodes or torch.compiler.is_compiling():
        return _op(mu, logvar, seed, samples, stream)
    return _SampleKl.apply(mu, logvar, seed, samples, stream)


def sample_kl_twin(
    mu: Tensor, logvar: Tensor, seed: Tensor, n: int | None = None, *, stream: int = 0
) -> tuple[Tensor, Tensor]:
    """:func:`sample_kl` in pure torch."""
    _check(mu, logvar, seed)
    wide = torch.float64 if mu.dtype == torch.float64 else torch.float32
    shape = tuple(mu.shape) if n is None else (n, *mu.shape)
    noise = normal(shape, seed, stream).to(wide)
    m, lv = mu.to(wide), logvar.to(wide)
    sigma = (0.5 * lv).exp()
    z = (m + sigma * noise).to(mu.dtype)
    return z, 0.5 * ((m * m + sigma * sigma) - (1 + lv)).sum(1)


def _check(mu: Tensor, logvar: Tensor, seed: Tensor) -> None:
    if mu.dim() != 2:
        raise RuntimeError(f"sample_kl: mu: shape {list(mu.shape)}, expected [B, D]")
    if logvar.shape != mu.shape:
        raise RuntimeError(f"sample_kl: logvar: shape {list(logvar.shape)}, expected that of mu, {list(mu.shape)}")
    if logvar.dtype != mu.dtype:
        raise RuntimeError("sample_kl: logvar: dtype differs from that of mu")
    if seed.numel() != 1 or seed.dtype != torch.int64:
        raise RuntimeError(
            f"sample_kl: seed: shape {list(seed.shape)}, expected an int64 tensor of one element "
            "(cvhpe.ops.draw_seed makes one)"
        )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    mu, logvar, seed, ctx.n, ctx.stream = inputs
    ctx.save_for_backward(mu, logvar, seed)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_z: Tensor | None, grad_kl: Tensor | None) -> tuple[Tensor | None, ...]:
    with extension_loader.below_autograd():
        grads = torch.ops.cvhpe.sample_kl_backward.default(grad_z, grad_kl, *ctx.saved_tensors, ctx.n, ctx.stream)
    return *grads, None, None, None


class _SampleKl(torch.autograd.Function):
    """The eager way where csrc/autograd is not loaded; torch.library.register_autograd makes a slower one of the same
    two functions."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        _save(ctx, inputs, ())  # type: ignore[arg-type]
        with extension_loader.below_autograd():
            return _op(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_kl: Tensor | None) -> tuple[Tensor | None, ...]:
        return extension_loader.once_differentiable("sample_kl", _backward(ctx, grad_z, grad_kl))


def _fake(mu: Tensor, logvar: Tensor, seed: Tensor, n: int = -1, stream: int = 0) -> tuple[Tensor, Tensor]:
    _check(mu, logvar, seed)
    shape = tuple(mu.shape) if n < 0 else (n, *mu.shape)
    wide = torch.float64 if mu.dtype == torch.float64 else torch.float32
    return mu.new_empty(shape), mu.new_empty(mu.shape[0], dtype=wide)


def _fake_backward(
    grad_z: Tensor | None,
    grad_kl: Tensor | None,
    mu: Tensor,
    logvar: Tensor,
    seed: Tensor,
    n: int = -1,
    stream: int = 0,
) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape)


_draw: Callable[[], Tensor] | None = None  # the same draw in one call, where csrc/autograd is loaded
if extension_loader.load().nodes:
    _draw = torch.ops.cvhpe._draw_seed.default
    torch.library.register_fake("cvhpe::_draw_seed", lambda: torch.empty(1, dtype=torch.int64))
if extension_loader.load().loaded:
    _op = torch.ops.cvhpe.sample_kl.default
    torch.library.register_fake("cvhpe::sample_kl", _fake)
    torch.library.register_fake("cvhpe::sample_kl_backward", _fake_backward)
    torch.library.register_autograd("cvhpe::sample_kl", _backward, setup_context=_save)
