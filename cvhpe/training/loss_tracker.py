"""Losses of the steps since the last log line, kept on the device and read together; detection of divergence."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvhpe.models.pairs import Pair
from cvhpe.models.vae import Losses
from cvhpe.training.distributed import ProcessGroup

DIVERGED = 1e6
"""A loss diverges beyond this many times its usual value, or beyond this value if the usual one is below 1. After one
such gradient Adam's moments hold the weights in place for thousands of steps: the run does not recover."""
WINDOW = 1000
"""The usual value is the median of this many summaries."""


@dataclass(frozen=True)
class Divergence:
    """A step that no run can continue from.

    Args:
        step: number of the step.
        what: which losses, as in ``loss of rgb:joints3d, rgb:rgb`` or ``KL of rgb:rgb``.
        value: the largest of them: not finite, or far beyond the usual value.
        usual: the usual value.
    """

    step: int
    what: str
    value: float
    usual: float

    def __str__(self) -> str:
        """Describe the divergence in one line.

        >>> print(Divergence(7, "KL of rgb:rgb", 8e14, 20.0))
        step 7: the KL of rgb:rgb is 8.0e+14, where 2.0e+01 is usual
        """
        size = f"{self.value:.1e}, where {self.usual:.1e} is usual" if math.isfinite(self.value) else "not finite"
        return f"step {self.step}: the {self.what} is {size}"


@dataclass(frozen=True)
class LossSummary:
    """Losses of the steps since the last summary.

    Args:
        means: ``loss``, each pair, and ``kl:`` of each input, over the steps that had them.
        divergence: the first step that diverged; None if there is none.
    """

    means: Mapping[str, float]
    divergence: Divergence | None


class LossTracker:
    """Collects the losses of steps; only reading them makes the host wait.

    Args:
        pairs: of the model.
        group: the processes of the run, whose losses are added.
    """

    def __init__(self, pairs: Sequence[Pair], group: ProcessGroup) -> None:
        self.pairs, self.group = list(pairs), group
        self.names = ["loss", *map(str, pairs), *(f"kl:{p}" for p in pairs)]
        self.medians: deque[Tensor] = deque(maxlen=WINDOW)
        self._clear()

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.rows: list[Tensor] = []
        self.served: list[frozenset[Pair]] = []

    def add(self, step: int, losses: Losses) -> None:
        """Add the losses of a step.

        Args:
            step: number of the step.
            losses: of :func:`cvhpe.training.step.train_step`.
        """
        zero, total = losses.total.new_zeros(()), losses.total
        if self.group.size > 1:
            total = total / self.group.size
        values = [total, *(losses.reconstruction.get(p, zero) for p in self.pairs)]
        self.rows.append(torch.stack([*values, *(losses.kl.get(p, zero) for p in self.pairs)]))
        self.steps.append(step)
        self.served.append(frozenset(losses.reconstruction))

    def read(self) -> LossSummary:
        """Summarise the steps since the last summary; all processes of a run do so at the same step."""
        table, has = self.group.all_reduce_sum(torch.stack(self.rows)).double().cpu(), self._has()
        means = (table.where(has, 0.0).sum(0) / has.sum(0).clamp(min=1)).tolist()
        present = {name: mean for name, mean, some in zip(self.names, means, has.any(0).tolist(), strict=True) if some}
        divergence = self._divergence(table, has)
        self.medians.append(table.abs().where(has, torch.nan).nanmedian(0).values)
        self._clear()
        return LossSummary(by_input(present), divergence)

    def is_finite(self) -> bool:
        """Whether no step since the last summary diverged, as far as this process knows; the host waits."""
        return not self.rows or self._divergence(torch.stack(self.rows).double().cpu(), self._has()) is None

    def _has(self) -> Tensor:
        return torch.tensor([[True] + 2 * [p in served for p in self.pairs] for served in self.served])

    def _divergence(self, table: Tensor, has: Tensor) -> Divergence | None:
        sizes = table.abs().where(has, torch.nan)
        # Before the first summary, the first loss is the usual one: that of untrained networks.
        first = sizes.gather(0, has.to(torch.int8).argmax(0, keepdim=True))[0]
        usual = torch.stack([*self.medians]).nanmedian(0).values if self.medians else first
        usual = usual.where(usual.isfinite(), first).nan_to_num(1.0, posinf=1.0)
        diverged = has & (~table.isfinite() | (sizes > DIVERGED * usual.clamp(min=1.0)))
        if not bool(diverged.any()):
            return None
        at = int(diverged.any(1).nonzero()[0])
        columns, num_pairs = diverged[at].nonzero()[:, 0].tolist(), len(self.pairs)
        # The reconstruction losses are named if any diverged, else the KL terms, else the total.
        columns = [i for i in columns if 0 < i <= num_pairs] or [i for i in columns if i > num_pairs] or columns
        worst = max(columns, key=lambda i: float(sizes[at, i].nan_to_num(torch.inf)))
        what = describe_losses([self.names[i] for i in columns])
        return Divergence(self.steps[at], what, float(table[at, worst]), float(usual[worst]))


def describe_losses(names: Sequence[str]) -> str:
    """Name losses of one kind in a message.

    >>> describe_losses(["a:b", "c:b"]), describe_losses(["kl:a:b"]), describe_losses(["loss"])
    ('loss of a:b, c:b', 'KL of a:b', 'loss of all pairs')
    """
    if names[0] == "loss":
        return "loss of all pairs"
    kind = "KL" if names[0].startswith("kl:") else "loss"
    return f"{kind} of {', '.join(n.removeprefix('kl:') for n in names)}"


def by_input(means: Mapping[str, float]) -> dict[str, float]:
    """Replace the KL of pairs by that of inputs: the mean over an input's pairs, equal unless samples lack a modality.

    >>> by_input({"loss": 1.0, "a:b": 2.0, "kl:a:a": 3.0, "kl:a:b": 5.0})
    {'loss': 1.0, 'a:b': 2.0, 'kl:a': 4.0}
    """
    losses = {name: value for name, value in means.items() if not name.startswith("kl:")}
    kls: dict[str, list[float]] = {}
    for name, value in means.items():
        if name.startswith("kl:"):
            kls.setdefault(name.rpartition(":")[0], []).append(value)
    return losses | {name: sum(values) / len(values) for name, values in kls.items()}
