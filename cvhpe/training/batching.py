"""From the samples that a loader gives to what the model looks at: views, noise keys, shares, the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from cvhpe.augmentation.pose_swap import PoseSwap
from cvhpe.augmentation.views import add_keypoint_noise, sample_views
from cvhpe.config.schema import Config
from cvhpe.data.loader import Batches
from cvhpe.models.pairs import Pair, sources
from cvhpe.models.vae import Batch, CrossModalVAE, shared_rows
from cvhpe.plugin.contract import Fields, View, hand_side
from cvhpe.runs.run_dir import pair_weights


@dataclass(frozen=True)
class MicroBatch:
    """What one process works through at once: the whole batch, or a piece of it.

    share: pair -> the samples of this piece over those of the whole batch that serve it; a pair missing here has
    none in the whole batch. weights: of the pairs in this process's loss, so that gradients that are summed over
    pieces and averaged over processes are those of the whole batch.
    """

    batch: Batch
    weights: Mapping[Pair, float]
    share: Mapping[Pair, float]


class BatchBuilder:
    """Makes the parts of a batch, out of its fields and a generator alone.

    Views and noise are drawn for the batch of all processes, whichever of its samples are this process's, and
    pairs are weighed by it. Nothing here waits for the device: what has to be looked at is looked at before it
    goes there.
    """

    def __init__(
        self,
        config: Config,
        model: CrossModalVAE,
        batches: Batches,
        device: torch.device,
        *,
        pieces: int = 1,
    ) -> None:
        self.config, self.model, self.device, self.pieces = config, model, device, pieces
        self.batches = batches
        self.weights = pair_weights(config)
        self.swap = PoseSwap.from_config(config, model.modalities, batches)
        everything = batches.arrays()
        self.palm = everything["root_shift_weight"]
        self.gaps: dict[str, Tensor] = {}
        """Modality -> ``[N]`` which samples of the data have it; one that all have is left out."""
        for name, modality in model.modalities.items():
            has = torch.stack([everything[f"has_{f}"] for f in modality.reads]).all(0)
            if not bool(has.all()):
                self.gaps[name] = has

    def __call__(self, fields: Fields, generator: Generator) -> tuple[list[MicroBatch], Tensor]:
        """The parts of a batch on the device, and int64 ``[inputs]``: a key of noise for each input modality."""
        together = fields.get("global_index")
        index = fields["index"] if together is None else together
        palm = fields["root_shift_weight"] if together is None else self.palm[together]
        view = sample_views(palm, self.config.augmentation, generator, self.batches.margin)
        seeds = torch.randint(2**62, (len(sources(self.model.pairs)),), generator=generator)
        has = {name: all_of[index] for name, all_of in self.gaps.items()}
        own = len(fields["index"])
        start = 0 if together is None else position(len(index), self.batches.rank, self.batches.world)
        fields = self._pose_swapped(fields, generator, len(index), start)
        pieces = min(self.pieces, own)
        if pieces == 1 and own == len(index):
            return [self._part(fields, view, has, 0)], self._move(seeds)
        parts = []
        for piece in range(pieces):
            at, to = position(own, piece, pieces), position(own, piece + 1, pieces)
            cut = {name: t[at:to] for name, t in fields.items() if name != "global_index"}
            seen = view if (at, to) == (0, len(index)) else view.select(torch.arange(start + at, start + to))
            parts.append(self._part(cut, seen, has, start + at, len(index)))
        return parts, self._move(seeds)

    def _pose_swapped(self, fields: Fields, generator: Generator, n: int, first: int) -> Fields:
        """The samples ``first`` onward of a batch of ``n`` with what augmentation changes beside their views."""
        if self.swap is not None:
            fields = self.swap(fields, generator, n, first)
        noise = self.config.augmentation.keypoint_noise_px
        if noise:
            points = add_keypoint_noise(fields["joints2d"], fields["crop"], noise, generator, n, first)
            fields = {**fields, "joints2d": points}
        return fields

    def _part(self, fields: Fields, view: View, has: Mapping[str, Tensor], first: int, whole: int = 0) -> MicroBatch:
        """The samples ``first`` to ``first + n`` of a batch; ``has`` and ``whole`` are of that batch."""
        n = len(fields["index"])
        whole = whole or n
        mine = {name: found[first : first + n] for name, found in has.items()}
        rows = {name: found.nonzero()[:, 0] for name, found in mine.items() if not bool(found.all())}
        share, weights, shared = {}, {}, {}
        for pair in self.model.pairs:
            both = [name for name in pair if name in has]
            here, there = n, whole
            if both:
                here, there = (int(torch.stack([h[b] for b in both]).all(0).sum()) for h in (mine, has))
                shared[pair] = self._both(shared_rows(rows.get(pair.source), rows.get(pair.target), n))
            if there:
                share[pair] = here / there
                weights[pair] = self.weights.get(pair, 1.0) * here * self.batches.world / there
        return MicroBatch(
            Batch(
                {name: self._move(self.model.stored(name, fields)) for name in self.model.modalities},
                self._move_view(view),
                self._move(hand_side(fields["side"] ^ view.flip.long(), known="H" in self.config.protocol)),
                {name: self._move(found) for name, found in rows.items()},
                shared,
                {name: int(has[name][:first].sum()) if name in has else first for name in self.model.modalities},
            ),
            weights,
            share,
        )

    def _move(self, x: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return x
        return x.pin_memory().to(self.device, non_blocking=True)

    def _move_view(self, view: View) -> View:
        if self.device.type == "cpu":
            return view
        return View(
            self._move(view.angle),
            self._move(view.scale),
            self._move(view.shift),
            self._move(view.flip),
            self._move(view.root_shift_weight),
            view.margin,
        )

    def _both(self, found: tuple[Tensor | None, Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
        a, b = (None if t is None else self._move(t) for t in found)
        return a, b


def position(n: int, part: int, parts: int) -> int:
    """Where a part begins when ``n`` things are dealt out in ``parts`` runs as even as can be, longer ones first.

    >>> [position(7, part, 3) for part in range(4)]
    [0, 3, 5, 7]
    """
    each, rest = divmod(n, parts)
    return part * each + min(part, rest)
