"""Product of Gaussian experts: fuses the posteriors of several inputs of one hand.

With inputs that are independent given the latent ``z``, Bayes' rule gives

    p(z | x_1 .. x_M)  ~  p(z) prod_i p(x_i | z)  ~  p(z) prod_i [ q(z | x_i) / p(z) ].

Every posterior ``q(z|x_i) = N(mu_i, s_i^2)`` contains the prior ``p(z) = N(0, I)``, so all but one of the priors are
divided out. Input ``i`` contributes the Gaussian factor of precision ``1/s_i^2 - 1`` and natural parameter
``mu_i/s_i^2``. Raised to a power ``w_i``, its weight, it gives

    precision  T  = 1 + sum_i w_i (1/s_i^2 - 1)          mean  = (1/T) sum_i w_i mu_i / s_i^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from cvhpe.plugin.contract import Posterior


class FusionParams(TypedDict, total=False):
    """Parameters of :func:`fuse`.

    weights: input -> its power in the product. precisions: input -> its precision in each latent dimension; empty where
    the posteriors' own precisions are used.
    """

    weights: Mapping[str, float]
    precisions: Mapping[str, Any]


def fuse(
    posteriors: Mapping[str, Posterior],
    weights: Mapping[str, float] | None = None,
    precisions: Mapping[str, Any] | None = None,
) -> Posterior:
    """The product of posteriors. A single posterior is returned unchanged.

    Args:
        posteriors: Input -> posterior ``[B, D]``.
        weights: Input -> power ``w_i``; 1 for inputs that are missing.
        precisions: Input -> ``[D]``, at least 1, in place of the posterior's own.

    Returns:
        The fused posterior ``[B, D]``.

    Raises:
        ValueError: There is no posterior.

    Example:
        >>> one = Posterior(torch.tensor([[1.0]]), torch.tensor([[0.5]]).log())
        >>> fused = fuse({"a": one, "b": one})   # T = 1 + 1 + 1, mean = (2 + 2) / 3
        >>> fused.mu, fused.logvar.exp()
        (tensor([[1.3333]]), tensor([[0.3333]]))
    """
    if not posteriors:
        raise ValueError("fuse: no posterior")
    if len(posteriors) == 1:
        return next(iter(posteriors.values()))
    total: Tensor | float = 1.0
    natural: Tensor | float = 0.0
    for name, (mu, logvar) in posteriors.items():
        fitted = None if precisions is None else precisions.get(name)
        precision = (-logvar).exp() if fitted is None else torch.as_tensor(fitted, dtype=mu.dtype, device=mu.device)
        precision = precision.clamp_min(1.0)
        weight = 1.0 if weights is None else weights.get(name, 1.0)
        total = total + weight * (precision - 1.0)
        natural = natural + weight * precision * mu
    mean = torch.as_tensor(natural / total)
    return Posterior(mean, -torch.as_tensor(total).log().expand_as(mean))


def sample_latents(posterior: Posterior, count: int, generator: torch.Generator) -> Tensor:
    """Samples of a posterior.

    Args:
        posterior: ``[B, D]``.
        count: Number N of samples.
        generator: On the CPU.

    Returns:
        ``[N, B, D]``.
    """
    mu, logvar = posterior
    noise = torch.randn(count, *mu.shape, generator=generator).to(mu.device)
    return mu + noise * (0.5 * logvar).exp()
