"""Losses of the steps since the last log line, kept on the device and read in one go."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvhpe.models.pairs import Pair
from cvhpe.models.vae import Losses
from cvhpe.training.batching import MicroBatch
from cvhpe.training.distributed import ProcessGroup

BEYOND = 1e6
"""How many times its usual value a loss may be, or a million where that is below 1. After one such gradient Adam's
moments keep the weights where they are for thousands of steps, so that a run which goes on does not recover."""
REMEMBERED = 1000
"""FusionParams many readings the usual value is the median of."""


@dataclass(frozen=True)
class Divergence:
    """A step that no run goes on from: the largest ``value`` of its losses, not finite or far beyond the ``usual`` one.

    what: whose, as in ``loss of rgb:joints3d, rgb:rgb`` or ``KL of rgb:rgb``.
    """

    step: int
    what: str
    value: float
    usual: float

    def __str__(self) -> str:
        """
        >>> print(Divergence(7, "KL of rgb:rgb", 8e14, 20.0))
        step 7: the KL of rgb:rgb is 8.0e+14, where 2.0e+01 is usual
        """
        size = f"{self.value:.1e}, where {self.usual:.1e} is usual" if math.isfinite(self.value) else "not finite"
        return f"step {self.step}: the {self.what} is {size}"


@dataclass(frozen=True)
class LossSummary:
    """means: ``loss``, each pair, and ``kl:`` of each input, over the steps that had them.

    broken: the first step with a loss that is not finite or absurd; None where there is none.
    """

    means: Mapping[str, float]
    broken: Divergence | None


class LossTracker:
    """Adds up what pieces and processes say of a step; only :meth:`read` makes the host wait."""

    def __init__(self, pairs: Sequence[Pair], world: ProcessGroup, device: torch.device) -> None:
        self.pairs, self.world = list(pairs), world
        self.names = ["loss", *map(str, pairs), *(f"kl:{p}" for p in pairs)]
        self.zero = torch.zeros((), device=device)
        self.steps: list[int] = []
        self.rows: list[Tensor] = []
        self.served: list[frozenset[Pair]] = []
        self.medians: deque[Tensor] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, done: Sequence[tuple[Losses, MicroBatch]]) -> None:
        """Note the losses of a step, of all its pieces."""
        row = self._row(*done[0])
        for losses, part in done[1:]:
            row = row + self._row(losses, part)
        self.steps.append(step)
        self.rows.append(row)
        self.served.append(frozenset(done[0][1].share))

    def _row(self, losses: Losses, part: MicroBatch) -> Tensor:
        values = [losses.total.detach()]
        values += [losses.reconstruction.get(p, self.zero) for p in self.pairs]
        values += [losses.kl.get(p, self.zero) for p in self.pairs]
        row = torch.stack(values)
        shares = [part.share.get(p, 0.0) for p in self.pairs]
        if self.world.size == 1 and all(s == 1.0 or s == 0.0 for s in shares):
            return row  # the whole batch at once
        return row * torch.tensor([1 / self.world.size, *shares, *shares]).to(row.device, non_blocking=True)

    def read(self) -> LossSummary:
        """Means over the steps noted since the last time; every process of a run reads at the same step."""
        table = self.world.all_reduce_sum(torch.stack(self.rows)).double().cpu()
        has = self._has()
        means = (table.where(has, 0.0).sum(0) / has.sum(0).clamp(min=1)).tolist()
        known = {name: value for name, value, some in zip(self.names, means, has.any(0).tolist(), strict=True) if some}
        broken = self._broken(table, has)
        self.medians.append(table.abs().where(has, torch.nan).nanmedian(0).values)
        self.steps, self.rows, self.served = [], [], []
        return LossSummary(by_input(known), broken)

    def is_finite(self) -> bool:
        """Whether no loss noted since the last reading is broken, as far as this process knows; the host waits."""
        return not self.rows or self._broken(torch.stack(self.rows).double().cpu(), self._has()) is None

    def _has(self) -> Tensor:
        return torch.tensor([[True] + 2 * [p in served for p in self.pairs] for served in self.served])

    def _broken(self, table: Tensor, has: Tensor) -> Divergence | None:
        sizes = table.abs().where(has, torch.nan)
        # Until there was a reading, the first loss of all is usual: that of networks that know nothing yet.
        first = sizes.gather(0, has.to(torch.int8).argmax(0, keepdim=True))[0]
        usual = torch.stack([*self.medians]).nanmedian(0).values if self.medians else first
        usual = usual.where(usual.isfinite(), first).nan_to_num(1.0, posinf=1.0)
        bad = has & (~table.isfinite() | (sizes > BEYOND * usual.clamp(min=1.0)))
        if not bool(bad.any()):
            return None
        at = int(bad.any(1).nonzero()[0])
        columns, many = bad[at].nonzero()[:, 0].tolist(), len(self.pairs)
        which = [i for i in columns if 0 < i <= many] or [i for i in columns if i > many] or columns
        worst = max(which, key=lambda i: float(sizes[at, i].nan_to_num(torch.inf)))
        what = in_words([self.names[i] for i in which])
        return Divergence(self.steps[at], what, float(table[at, worst]), float(usual[worst]))


def in_words(names: Sequence[str]) -> str:
    """What columns of the table are called: all of them pairs, all of them KLs, or the sum of everything.

    >>> in_words(["a:b", "c:b"]), in_words(["kl:a:b"]), in_words(["loss"])
    ('loss of a:b, c:b', 'KL of a:b', 'loss of all pairs')
    """
    if names[0] == "loss":
        return "loss of all pairs"
    kind = "KL" if names[0].startswith("kl:") else "loss"
    return f"{kind} of {', '.join(n.removeprefix('kl:') for n in names)}"


def by_input(means: Mapping[str, float]) -> dict[str, float]:
    """The KL of an input in place of those of its pairs: their mean, all the same unless samples lack a modality.

    >>> by_input({"loss": 1.0, "a:b": 2.0, "kl:a:a": 3.0, "kl:a:b": 5.0})
    {'loss': 1.0, 'a:b': 2.0, 'kl:a': 4.0}
    """
    found = {name: value for name, value in means.items() if not name.startswith("kl:")}
    parts: dict[str, list[float]] = {}
    for name, value in means.items():
        if name.startswith("kl:"):
            parts.setdefault(name.rpartition(":")[0], []).append(value)
    return found | {name: sum(values) / len(values) for name, values in parts.items()}
