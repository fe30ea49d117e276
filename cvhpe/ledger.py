"""Losses of the steps since the last log line, kept on the device and read in one go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvhpe.distributed import World
from cvhpe.feed import Part
from cvhpe.model import Losses
from cvhpe.pairs import Pair


@dataclass(frozen=True)
class Reading:
    """means: ``loss``, each pair, and ``kl:`` of each input, over the steps that had them.

    broken: the first step with a loss that is not finite, and which losses; None where all are.
    """

    means: Mapping[str, float]
    broken: tuple[int, list[str]] | None


class Ledger:
    """Adds up what pieces and processes say of a step; only :meth:`read` makes the host wait."""

    def __init__(self, pairs: Sequence[Pair], world: World, device: torch.device) -> None:
        self.pairs, self.world = list(pairs), world
        self.names = ["loss", *map(str, pairs), *(f"kl:{p}" for p in pairs)]
        self.zero = torch.zeros((), device=device)
        self.steps: list[int] = []
        self.rows: list[Tensor] = []
        self.served: list[frozenset[Pair]] = []

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, done: Sequence[tuple[Losses, Part]]) -> None:
        """Note the losses of a step, of all its pieces."""
        row = self._row(*done[0])
        for losses, part in done[1:]:
            row = row + self._row(losses, part)
        self.steps.append(step)
        self.rows.append(row)
        self.served.append(frozenset(done[0][1].share))

    def _row(self, losses: Losses, part: Part) -> Tensor:
        values = [losses.total.detach()]
        values += [losses.reconstruction.get(p, self.zero) for p in self.pairs]
        values += [losses.kl.get(p, self.zero) for p in self.pairs]
        row = torch.stack(values)
        shares = [part.share.get(p, 0.0) for p in self.pairs]
        if self.world.size == 1 and all(s == 1.0 or s == 0.0 for s in shares):
            return row  # the whole batch at once
        return row * torch.tensor([1 / self.world.size, *shares, *shares]).to(row.device, non_blocking=True)

    def read(self) -> Reading:
        """Means over the steps noted since the last time; every process of a run reads at the same step."""
        table = self.world.add(torch.stack(self.rows)).double().cpu()
        has = torch.tensor([[True] + 2 * [p in served for p in self.pairs] for served in self.served])
        means = (table.where(has, 0.0).sum(0) / has.sum(0).clamp(min=1)).tolist()
        known = {name: value for name, value, some in zip(self.names, means, has.any(0).tolist(), strict=True) if some}
        broken = None
        bad = (~table.isfinite()).any(1).nonzero()
        if len(bad):
            at = int(bad[0])
            what = [n for n, value in zip(self.names, table[at].tolist(), strict=True) if not math.isfinite(value)]
            pairs = [n for n in what if n != "loss" and not n.startswith("kl:")]
            broken = self.steps[at], pairs or by_input(dict.fromkeys(what, 0.0)) or what
        self.steps, self.rows, self.served = [], [], []
        return Reading(by_input(known), broken and (broken[0], list(broken[1])))


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
