"""The model: one latent space, an encoder for every input modality and a decoder for every target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cvhpe.models.keypoint_encoder import masked_keypoint_loss
from cvhpe.models.pairs import Pair, sources, targets
from cvhpe.ops import ElboTerm, elbo, sample_kl
from cvhpe.plugin.contract import Modality, Posterior, View


@dataclass(frozen=True)
class Batch:
    """What one training step looks at, on the device.

    stored: modality name -> stored tensor ``[B, ...]``, as the data set packed it.
    side: ``[B, 2]`` one-hot hand side as it is seen, zeros where it is not given.
    rows: modality name -> indices ``[n]`` of the samples that have it; a modality that all have is left out.
    shared: pair -> :func:`shared_rows` of its modalities, where that was found before the batch came to the device:
        looking for it there makes the host wait.
    first: modality name -> how many samples that have it stand before these in the batch of all processes. Noise is
        a function of the place there, so that several processes draw what one would.
    """

    stored: Mapping[str, Tensor]
    view: View
    side: Tensor
    rows: Mapping[str, Tensor]
    shared: Mapping[Pair, tuple[Tensor | None, Tensor | None]] = field(default_factory=dict)
    first: Mapping[str, int] = field(default_factory=dict)

    def has(self, name: str) -> Tensor | None:
        """Indices of the samples that have ``name``, None for all of them."""
        return self.rows.get(name)

    def source_and_target_rows(self, pair: Pair) -> tuple[Tensor | None, Tensor | None]:
        """The samples that have both modalities of a pair: which they are of its source's, and of its target's."""
        if pair in self.shared:
            return self.shared[pair]
        return shared_rows(self.has(pair.source), self.has(pair.target), len(self.view))

    def take(self, name: str, rows: Tensor | None) -> tuple[Tensor, View]:
        """Stored samples and their views; ``rows`` None is the whole batch."""
        x = self.stored[name]
        return (x, self.view) if rows is None else (x[rows], self.view.select(rows))


@dataclass(frozen=True)
class Losses:
    """total: what is minimised. reconstruction, kl: per pair, detached means over its samples for the log.

    A pair that no sample of the batch can serve is left out.
    """

    total: Tensor
    reconstruction: dict[Pair, Tensor]
    kl: dict[Pair, Tensor]


class CrossModalVAE(nn.Module):
    """Cross-modal variational autoencoder (paper section 3) over any set of modalities.

    Minimises, summed over the pairs (i -> j), the mean over the samples that have both of
    ``E_q(z|x_i)[loss_j(decode_j(z), x_j)] + beta * KL(q(z|x_i) || N(0, I))``.
    """

    precision: torch.dtype | None
    """What the networks multiply in; None is float32. Posteriors, and joints where they go in and come out, are in
    float32 in any case."""
    low_res: bool
    """Whether encoders in training see pictures at half their size: a quarter of the work, for a run's first steps."""
    aux_keypoint_weight: float
    """Weight of the distance from the 2D joints at which encoders that look for joints see them; 0: they look alone."""
    unit_mm: float
    """Length of the unit of 3D joints, mm; 0 where it is each hand's own bone (protocol S). Whoever trains or loads
    a model sets it."""

    def __init__(self, modalities: Mapping[str, Modality], pairs: Sequence[Pair], latent_dim: int = 30) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.pairs = tuple(pairs)
        self.latent_dim = latent_dim
        self.precision: torch.dtype | None = None
        self.low_res = False
        self.aux_keypoint_weight = 0.0
        self.unit_mm = 0.0
        self.encoders = nn.ModuleDict({n: modalities[n].encoder(latent_dim) for n in sources(pairs)})
        self.decoders = nn.ModuleDict({n: modalities[n].decoder(latent_dim) for n in targets(pairs)})

    def units(self, own: Tensor) -> Tensor:
        """The unit of 3D joints ``[B]`` mm for hands whose own bones are ``own`` ``[B]`` mm."""
        return torch.full_like(own, self.unit_mm) if self.unit_mm else own

    def stored(self, name: str, fields: Mapping[str, Tensor]) -> Tensor:
        """The stored batch ``[B, ...]`` of a modality, out of a packed data set's fields, in the model's own unit.

        Training, evaluation and figures all come this way: packed 3D joints are in bones of the hand itself, and a
        model that was trained in mean bones would take every hand for one of mean size.
        """
        modality = self.modalities[name]
        if self.unit_mm and "joints3d" in modality.reads:
            ratio = fields["scale_mm"] / self.unit_mm
            fields = {**fields, "joints3d": fields["joints3d"] * ratio[:, None, None]}
        return modality.stored(fields)

    def encode(self, name: str, x: Tensor, side: Tensor) -> Posterior:
        """Network-ready ``[B, *shape]`` and one-hot side ``[B, 2]`` -> posterior ``[B, D]`` float32."""
        with self._autocast(x.device):
            posterior: Posterior = self.encoders[name](x, side)
        return Posterior(posterior.mu.float(), posterior.logvar.float())

    def decode(self, name: str, z: Tensor) -> Tensor:
        """Latent ``[B, D]`` -> ``[B, *shape]``, in float32 unless it is a picture of a model with a ``precision``."""
        with self._autocast(z.device):
            made: Tensor = self.decoders[name](z)
        return made if self.modalities[name].geometry == "image" else made.float()

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.precision)

    def forward(self, batch: Batch, seeds: Tensor, beta: float, weights: Mapping[Pair, float]) -> Losses:
        """The losses of one step. ``seeds`` int64 ``[inputs]``: one key of the noise for each input modality."""
        inputs = sources(self.pairs)
        seen: dict[str, Tensor] = {}
        for name in inputs:
            rows = batch.has(name)
            if rows is not None and not len(rows):
                continue
            stored, view = batch.take(name, rows)
            seen[name] = self.modalities[name].augment(stored, view)
        keypoint_losses: list[Tensor] = []
        terms: list[ElboTerm] = []
        loss_pairs: list[Pair] = []
        unused: list[nn.Module] = []
        for k, source in enumerate(inputs):
            rows = batch.has(source)
            outgoing = [p for p in self.pairs if p.source == source]
            if rows is not None and not len(rows):
                unused += [self.encoders[source], *(self.decoders[p.target] for p in outgoing)]
                continue
            side = batch.side if rows is None else batch.side[rows]
            posterior, points = self._encode_with_keypoints(source, self._downsample_input(source, seen[source]), side)
            if points is not None:
                keypoint_losses.append(self._keypoint_loss(points, rows, batch))
            z, kl = sample_from(posterior, seeds[k : k + 1], batch.first.get(source, 0))
            for pair in outgoing:
                of_z, of_target = batch.source_and_target_rows(pair)
                if of_z is not None and not len(of_z):
                    unused += [self.encoders[source], self.decoders[pair.target]]
                    continue
                prediction = self.decode(pair.target, z if of_z is None else z[of_z])
                loss = self._reconstruction(pair.target, prediction, of_target, batch, seen)
                terms.append(ElboTerm(loss, kl if of_z is None else kl[of_z], None, weights.get(pair, 1.0)))
                loss_pairs.append(pair)
        if not terms:
            return Losses(idle(unused), {}, {})
        total, reconstruction, divergence = idle(unused) if unused else None, {}, {}
        # One launch for the terms of a size: all of them, unless samples of the batch lack a modality.
        for size in dict.fromkeys(len(t.kl) for t in terms):
            which = [i for i, t in enumerate(terms) if len(t.kl) == size]
            bound = elbo([terms[i] for i in which], beta)
            total = bound.total if total is None else total + bound.total
            for at, i in enumerate(which):
                reconstruction[loss_pairs[i]] = bound.rec[at]
                divergence[loss_pairs[i]] = bound.kl[at]
        assert total is not None
        if keypoint_losses:
            total = total + self.aux_keypoint_weight * torch.stack(keypoint_losses).sum()
        return Losses(total, reconstruction, divergence)

    def _encode_with_keypoints(self, name: str, x: Tensor, side: Tensor) -> tuple[Posterior, Tensor | None]:
        """The posterior and, where the run has a keypoint loss and the encoder predicts joints, those."""
        look = getattr(self.encoders[name], "encode_with_keypoints", None)
        if not self.aux_keypoint_weight or look is None:
            return self.encode(name, x, side), None
        with self._autocast(x.device):
            posterior, points = look(x, side)
        return Posterior(posterior.mu.float(), posterior.logvar.float()), points

    def _keypoint_loss(self, points: Tensor, rows: Tensor | None, batch: Batch) -> Tensor:
        """How far an encoder's points ``[n, J, 2]`` are from the 2D joints; ``rows``: the samples they are of."""
        stored, view = batch.take("joints2d", rows)
        return masked_keypoint_loss(points, self.modalities["joints2d"].augment(stored, view))

    def _downsample_input(self, name: str, x: Tensor) -> Tensor:
        """What an encoder in training sees of its input: while the run is ``coarse``, a picture at half its size."""
        if self.low_res and self.modalities[name].geometry == "image":
            return nn.functional.avg_pool2d(x, 2)
        return x

    def _reconstruction(
        self, target: str, prediction: Tensor, of_target: Tensor | None, batch: Batch, seen: Mapping[str, Tensor]
    ) -> Tensor:
        """Losses ``[n]`` of predictions; ``of_target``: which of the samples that have the target they are of."""
        modality = self.modalities[target]
        if target in seen:
            truth = seen[target]
            return modality.loss(prediction, truth if of_target is None else truth[of_target])
        have = batch.has(target)
        wanted = have if of_target is None else of_target if have is None else have[of_target]
        stored, view = batch.take(target, wanted)
        if modality.fused_loss is not None:
            return modality.fused_loss(prediction, stored, view)
        return modality.loss(prediction, modality.augment(stored, view))


def sample_from(q: Posterior, seed: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Samples ``[B, D]`` of posteriors that stand ``first`` rows into a larger batch, and their KL ``[B]``."""
    if not first:
        return sample_kl(q.mu, q.logvar, seed)
    mu, logvar = (nn.functional.pad(t, (0, 0, first, 0)) for t in q)
    z, kl = sample_kl(mu, logvar, seed)
    return z[first:], kl[first:]


def idle(modules: Sequence[nn.Module]) -> Tensor:
    """Zero, but part of the graph: modules that a batch gives no work still get their (zero) gradients.

    Replicas of a distributed run would otherwise wait for one another for ever.
    """
    return torch.stack([p.sum() for m in modules for p in m.parameters()]).sum() * 0.0


def shared_rows(a: Tensor | None, b: Tensor | None, n: int) -> tuple[Tensor | None, Tensor | None]:
    """Where two lists of a batch's rows name the same samples: positions in ``a`` and in ``b``.

    None stands for all ``n`` rows in order, both as an argument and as an answer.
    """
    if b is None and a is None:
        return None, None
    if b is None:
        return None, a
    if a is None:
        return b, None
    place_a = torch.full((n,), -1, dtype=torch.long, device=a.device).scatter_(
        0, a, torch.arange(a.numel(), device=a.device)
    )
    place_b = torch.full((n,), -1, dtype=torch.long, device=b.device).scatter_(
        0, b, torch.arange(b.numel(), device=b.device)
    )
    both = ((place_a >= 0) & (place_b >= 0)).nonzero()[:, 0]
    return place_a[both], place_b[both]
