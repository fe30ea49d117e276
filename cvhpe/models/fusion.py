"""Product of Gaussian experts: the posteriors of several inputs of one hand as one posterior.

With inputs that are independent given the latent ``z``, Bayes' rule gives

    p(z | x_1 .. x_M)  ~  p(z) prod_i p(x_i | z)  ~  p(z) prod_i [ q(z | x_i) / p(z) ].

Every posterior ``q(z|x_i) = N(mu_i, s_i^2)`` holds the prior ``p(z) = N(0, I)`` already, so all but one of the
priors are divided out again. Input ``i`` contributes the Gaussian factor of precision ``1/s_i^2 - 1`` and natural
parameter ``mu_i/s_i^2``. Raised to a power ``w_i``, its weight, it gives

    precision  T  = 1 + sum_i w_i (1/s_i^2 - 1)          mean  = (1/T) sum_i w_i mu_i / s_i^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from cvhpe.plugin.contract import Posterior


class FusionParams(TypedDict, total=False):
    """FusionParams :func:`fuse` multiplies: input -> its power in the product, and its precision in each dimension.

    Precisions are empty where the posteriors' own are used.
    """

    weights: Mapping[str, float]
    precisions: Mapping[str, Any]


def fuse(
    posteriors: Mapping[str, Posterior],
    weights: Mapping[str, float] | None = None,
    precisions: Mapping[str, Any] | None = None,
) -> Posterior:
    """The product of posteriors ``[B, D]`` (see the module's text); weights that are not named are 1.

    precisions: input -> ``[D]``, at least 1, in place of the posterior's own. A single posterior is returned as it is,
    whatever is said of it.

    >>> one = Posterior(torch.tensor([[1.0]]), torch.tensor([[0.5]]).log())
    >>> both = fuse({"a": one, "b": one})   # T = 1 + 1 + 1, mean = (2 + 2) / 3
    >>> both.mu, both.logvar.exp()
    (tensor([[1.3333]]), tensor([[0.3333]]))
    """
    if not posteriors:
        raise ValueError("fuse: no posterior")
    if len(posteriors) == 1:
        return next(iter(posteriors.values()))
    total: Tensor | float = 1.0
    pull: Tensor | float = 0.0
    for name, (mu, logvar) in posteriors.items():
        own = None if precisions is None else precisions.get(name)
        precision = (-logvar).exp() if own is None else torch.as_tensor(own, dtype=mu.dtype, device=mu.device)
        precision = precision.clamp_min(1.0)
        weight = 1.0 if weights is None else weights.get(name, 1.0)
        total = total + weight * (precision - 1.0)
        pull = pull + weight * precision * mu
    mean = torch.as_tensor(pull / total)
    return Posterior(mean, -torch.as_tensor(total).log().expand_as(mean))


def draw(posterior: Posterior, samples: int, generator: torch.Generator) -> Tensor:
    """``samples`` latents ``[N, B, D]`` of a posterior ``[B, D]``; the generator is on the CPU."""
    mu, logvar = posterior
    noise = torch.randn(samples, *mu.shape, generator=generator).to(mu.device)
    return mu + noise * (0.5 * logvar).exp()
