"""``sample_kl``: sample of a Gaussian posterior and its KL divergence, in one pass. Schema: csrc/ops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvhpe.ops.extension_loader import below_autograd, kernel_state, once_differentiable, uses_kernels
from cvhpe.ops.noise import normal
from cvhpe.ops.view_transform import compute_dtype


def sample_kl(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a diagonal Gaussian posterior and compute its KL divergence from N(0, I) (paper section 3).

    ``z = mu + exp(logvar / 2) * noise`` and ``kl = sum_d (mu^2 + sigma^2 - 1 - logvar) / 2``. The noise is a function
    of ``seed`` alone: the same on CPU and GPU and for any number of threads, and regenerated in backward.

    Args:
        mu: ``[B, D]`` float32, float64, bfloat16 or float16.
        logvar: ``[B, D]``, of the dtype of ``mu``. Autocast changes neither.
        seed: One int64 element on the device of ``mu``.

    Returns:
        z: ``[B, D]``, of the dtype of ``mu``.
        kl: ``[B]`` float32; float64 for float64.

    Raises:
        RuntimeError: A shape, dtype or device does not fit; the message names the argument.

    Example:
        >>> mu = torch.zeros(2, 3)
        >>> z, kl = sample_kl(mu, mu, torch.tensor([1]))
        >>> z.shape, kl
        (torch.Size([2, 3]), tensor([0., 0.]))
    """
    if not uses_kernels(mu):
        return sample_kl_reference(mu, logvar, seed)
    if torch.compiler.is_compiling():
        return torch.ops.cvhpe.sample_kl(mu, logvar, seed)
    return _SampleKl.apply(mu, logvar, seed)


def sample_kl_reference(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Reference implementation of :func:`sample_kl`.

    Args:
        mu: As of :func:`sample_kl`.
        logvar: As of :func:`sample_kl`.
        seed: As of :func:`sample_kl`.

    Returns:
        z and kl, as of :func:`sample_kl`.
    """
    _check(mu, logvar, seed)
    dtype = compute_dtype(mu)
    noise = normal(tuple(mu.shape), seed).to(dtype)
    m, lv = mu.to(dtype), logvar.to(dtype)
    sigma = (0.5 * lv).exp()
    return (m + sigma * noise).to(mu.dtype), 0.5 * ((m * m + sigma * sigma) - (1 + lv)).sum(1)


def _check(mu: Tensor, logvar: Tensor, seed: Tensor) -> None:
    if mu.dim() != 2:
        raise RuntimeError(f"sample_kl: mu: shape {list(mu.shape)}, expected [B, D]")
    if logvar.shape != mu.shape:
        raise RuntimeError(f"sample_kl: logvar: shape {list(logvar.shape)}, expected that of mu, {list(mu.shape)}")
    if logvar.dtype != mu.dtype:
        raise RuntimeError("sample_kl: logvar: dtype differs from that of mu")
    if seed.numel() != 1 or seed.dtype != torch.int64:
        raise RuntimeError(f"sample_kl: seed: shape {list(seed.shape)}, expected an int64 tensor of one element")


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_z: Tensor | None, grad_kl: Tensor | None) -> tuple[Tensor | None, ...]:
    with below_autograd():
        grads = torch.ops.cvhpe.sample_kl_backward.default(grad_z, grad_kl, *ctx.saved_tensors)
    return *grads, None


class _SampleKl(torch.autograd.Function):
    """The eager path; what torch.library.register_autograd makes of the same two functions is slower."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        _save_for_backward(ctx, inputs, None)
        with below_autograd():
            return torch.ops.cvhpe.sample_kl.default(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_kl: Tensor | None) -> tuple[Tensor | None, ...]:
        return once_differentiable("sample_kl", _backward(ctx, grad_z, grad_kl))


def _fake(mu: Tensor, logvar: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    _check(mu, logvar, seed)
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape[0], dtype=torch.float32)


def _fake_backward(
    grad_z: Tensor | None, grad_kl: Tensor | None, mu: Tensor, logvar: Tensor, seed: Tensor
) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape)


if kernel_state().loaded:
    torch.library.register_fake("cvhpe::sample_kl", _fake)
    torch.library.register_fake("cvhpe::sample_kl_backward", _fake_backward)
    torch.library.register_autograd("cvhpe::sample_kl", _backward, setup_context=_save_for_backward)
