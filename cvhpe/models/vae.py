"""The cross-modal variational autoencoder: an encoder for every input, a decoder for every target, one latent space."""

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
from cvhpe.plugin.contract import Fields, Modality, Posterior, View

Rows = Tensor | None
"""Row numbers ``[n]`` int64 of samples in a batch; None stands for all of them, in order."""


@dataclass(frozen=True)
class Batch:
    """The input of :meth:`CrossModalVAE.forward`; all tensors are on the model's device.

    Args:
        stored: modality -> ``[B, ...]``, as the data set packed it.
        view: the view that all modalities of a sample are augmented by.
        side: ``[B, 2]`` one-hot hand side after the view's flip; zeros if the protocol does not give it.
        rows: modality -> the samples that have it, ``[n]``; a modality that all samples have is left out.
        pair_rows: pair -> :func:`shared_rows` of its modalities, computed before the batch went to the device, since
            computing them there makes the host wait.
        offset: modality -> number of samples that have it and come before these in the batch of all processes.
            The noise of a sample depends on its place there, so that several processes sample what one would.
    """

    stored: Mapping[str, Tensor]
    view: View
    side: Tensor
    rows: Mapping[str, Tensor]
    pair_rows: Mapping[Pair, tuple[Rows, Rows]] = field(default_factory=dict)
    offset: Mapping[str, int] = field(default_factory=dict)

    def lacks(self, name: str) -> bool:
        """Whether no sample of the batch has a modality."""
        return name in self.rows and not len(self.rows[name])

    def source_and_target_rows(self, pair: Pair) -> tuple[Rows, Rows]:
        """The samples that have both modalities of a pair, as rows among those of its source and of its target."""
        if pair in self.pair_rows:
            return self.pair_rows[pair]
        return shared_rows(self.rows.get(pair.source), self.rows.get(pair.target), len(self.view))

    def take(self, name: str, rows: Rows) -> tuple[Tensor, View]:
        """Samples of a batch.

        Args:
            name: a modality.
            rows: which samples of the batch.

        Returns:
            The stored samples ``[n, ...]`` and their views.
        """
        x = self.stored[name]
        return (x, self.view) if rows is None else (x[rows], self.view.select(rows))


@dataclass(frozen=True)
class Losses:
    """Losses of a batch.

    Args:
        total: the scalar that is minimised.
        reconstruction: pair -> mean over its samples, detached. A pair that no sample serves is left out.
        kl: pair -> mean KL divergence over its samples, detached.
    """

    total: Tensor
    reconstruction: dict[Pair, Tensor]
    kl: dict[Pair, Tensor]


class CrossModalVAE(nn.Module):
    """Cross-modal variational autoencoder (paper section 3) over any set of modalities.

    It minimises the sum over the pairs ``i -> j`` of the mean, over the samples that have both modalities, of
    ``E_q(z|x_i)[loss_j(decode_j(z), x_j)] + beta * KL(q(z|x_i) || N(0, I))``.

    Args:
        modalities: name -> modality, configured with the sizes of the run.
        pairs: which modality is decoded from which.
        latent_dim: ``D``, dimensions of the latent space.
        precision: type that the networks multiply in; None is float32. Posteriors and joints are float32 either way.
        unit_mm: length of the unit of 3D joints, mm; 0 if the unit is each hand's own scale bone (protocol S).
        aux_keypoint_weight: weight of the auxiliary keypoint loss of encoders that detect keypoints; 0: none.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        pairs: Sequence[Pair],
        latent_dim: int = 30,
        *,
        precision: torch.dtype | None = None,
        unit_mm: float = 0.0,
        aux_keypoint_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.modalities, self.pairs, self.latent_dim = dict(modalities), tuple(pairs), latent_dim
        self.precision, self.unit_mm, self.aux_keypoint_weight = precision, unit_mm, aux_keypoint_weight
        self.encoders = nn.ModuleDict({n: modalities[n].encoder(latent_dim) for n in sources(pairs)})
        self.decoders = nn.ModuleDict({n: modalities[n].decoder(latent_dim) for n in targets(pairs)})

    def units(self, scale_mm: Tensor) -> Tensor:
        """The unit of 3D joints ``[B]`` mm of hands whose scale bones are ``scale_mm`` ``[B]``."""
        return torch.full_like(scale_mm, self.unit_mm) if self.unit_mm else scale_mm

    def stored(self, name: str, fields: Fields) -> Tensor:
        """The stored samples of a modality, 3D joints in the model's own unit.

        Packed 3D joints are divided by the hand's own scale bone. A model without protocol S predicts them in units
        of the mean bone, so they are rescaled here, for training, evaluation and figures alike.

        Args:
            name: a modality.
            fields: samples of a packed data set.

        Returns:
            ``[B, ...]``, what the modality's ``augment`` takes.
        """
        modality = self.modalities[name]
        if self.unit_mm and "joints3d" in modality.reads:
            ratio = fields["scale_mm"] / self.unit_mm
            fields = {**fields, "joints3d": fields["joints3d"] * ratio[:, None, None]}
        return modality.stored(fields)

    def encode(self, name: str, x: Tensor, side: Tensor) -> Posterior:
        """The posterior q(z|x) of an input.

        Args:
            name: an input modality.
            x: ``[B, *shape]``, network-ready.
            side: ``[B, 2]`` one-hot hand side, or zeros.

        Returns:
            The posterior ``[B, D]`` float32.
        """
        return self._encode(name, x, side, with_keypoints=False)[0]

    def decode(self, name: str, z: Tensor) -> Tensor:
        """Decode latents.

        Args:
            name: a target modality.
            z: ``[B, D]``.

        Returns:
            ``[B, *shape]`` float32; images of a model with a ``precision`` are of that type.
        """
        with self._autocast(z.device):
            decoded: Tensor = self.decoders[name](z)
        return decoded if self.modalities[name].geometry == "image" else decoded.float()

    def forward(
        self, batch: Batch, seeds: Tensor, beta: float, weights: Mapping[Pair, float], low_res: bool = False
    ) -> Losses:
        """The losses of one step.

        Args:
            batch: the samples.
            seeds: ``[inputs]`` int64, one noise key for each input modality, in the order of :func:`sources`.
            beta: weight of the KL term.
            weights: pair -> weight in the total; 1 for pairs that are left out.
            low_res: whether encoders see images at half their size.

        Returns:
            The total to minimise, and the parts of every pair that a sample serves.
        """
        inputs = {n: self._augmented(n, batch.rows.get(n), batch) for n in sources(self.pairs) if not batch.lacks(n)}
        terms: dict[Pair, ElboTerm] = {}
        keypoint_losses: list[Tensor] = []
        unused: list[nn.Module] = []
        for seed, source in zip(seeds.split(1), sources(self.pairs), strict=True):
            outgoing = [p for p in self.pairs if p.source == source]
            if source not in inputs:
                unused += [self.encoders[source], *(self.decoders[p.target] for p in outgoing)]
                continue
            rows = batch.rows.get(source)
            posterior, keypoints = self._encode(
                source,
                self._downsample_input(source, inputs[source]) if low_res else inputs[source],
                batch.side if rows is None else batch.side[rows],
                with_keypoints=self.aux_keypoint_weight > 0,
            )
            if keypoints is not None:
                keypoint_losses.append(masked_keypoint_loss(keypoints, self._augmented("joints2d", rows, batch)))
            z, kl = sample_posterior(posterior, seed, batch.offset.get(source, 0))
            for pair in outgoing:
                source_rows, target_rows = batch.source_and_target_rows(pair)
                if source_rows is not None and not len(source_rows):
                    unused += [self.encoders[source], self.decoders[pair.target]]
                    continue
                prediction = self.decode(pair.target, z if source_rows is None else z[source_rows])
                loss = self._reconstruction(pair.target, prediction, target_rows, batch, inputs)
                kl_of_pair = kl if source_rows is None else kl[source_rows]
                terms[pair] = ElboTerm(loss, kl_of_pair, weight=weights.get(pair, 1.0))
        losses = sum_terms(terms, beta, zero_gradients(unused) if unused else None)
        if terms and keypoint_losses:
            total = losses.total + self.aux_keypoint_weight * torch.stack(keypoint_losses).sum()
            losses = Losses(total, losses.reconstruction, losses.kl)
        return losses

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.precision is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.precision)

    def _encode(self, name: str, x: Tensor, side: Tensor, *, with_keypoints: bool) -> tuple[Posterior, Tensor | None]:
        """The posterior and, if asked and if the encoder detects keypoints, these, ``[B, J, 2]`` crop fractions."""
        encoder, keypoints = self.encoders[name], None
        encode_with_keypoints = getattr(encoder, "encode_with_keypoints", None)
        with self._autocast(x.device):
            if with_keypoints and encode_with_keypoints is not None:
                posterior, keypoints = encode_with_keypoints(x, side)
            else:
                posterior = encoder(x, side)
        return Posterior(posterior.mu.float(), posterior.logvar.float()), keypoints

    def _augmented(self, name: str, rows: Rows, batch: Batch) -> Tensor:
        """Network-ready samples ``[n, *shape]`` of a modality under their views."""
        return self.modalities[name].augment(*batch.take(name, rows))

    def _downsample_input(self, name: str, x: Tensor) -> Tensor:
        """An image at half its size; any other input as it is."""
        return nn.functional.avg_pool2d(x, 2) if self.modalities[name].geometry == "image" else x

    def _reconstruction(
        self, target: str, prediction: Tensor, target_rows: Rows, batch: Batch, inputs: Mapping[str, Tensor]
    ) -> Tensor:
        """Losses ``[n]`` of predictions; ``target_rows``: their samples, among those that have the target."""
        modality = self.modalities[target]
        if target in inputs:  # augmented already
            truth = inputs[target]
            return modality.loss(prediction, truth if target_rows is None else truth[target_rows])
        having = batch.rows.get(target)
        rows = having if target_rows is None else target_rows if having is None else having[target_rows]
        if modality.fused_loss is not None:
            return modality.fused_loss(prediction, *batch.take(target, rows))
        return modality.loss(prediction, self._augmented(target, rows, batch))


def sum_terms(terms: Mapping[Pair, ElboTerm], beta: float, extra: Tensor | None = None) -> Losses:
    """The negative ELBO of all pairs, in one launch for each number of samples.

    That is one launch in all, unless samples lack a modality.

    Args:
        terms: pair -> reconstruction losses ``[n]``, KL ``[n]`` and weight.
        beta: weight of the KL term.
        extra: scalar to add to the total; needed if there are no terms.

    Returns:
        The total and every pair's means.

    Raises:
        ValueError: If there is nothing to sum.
    """
    total, reconstruction, kl = extra, {}, {}
    for size in dict.fromkeys(len(t.kl) for t in terms.values()):
        of_size = [pair for pair, term in terms.items() if len(term.kl) == size]
        bound = elbo([terms[pair] for pair in of_size], beta)
        total = bound.total if total is None else total + bound.total
        for i, pair in enumerate(of_size):
            reconstruction[pair], kl[pair] = bound.rec[i], bound.kl[i]
    if total is None:
        raise ValueError("sum_terms: neither terms nor extra")
    return Losses(total, reconstruction, kl)


def sample_posterior(posterior: Posterior, seed: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Reparametrised samples of posteriors, and their KL divergence from N(0, I).

    Args:
        posterior: ``[B, D]``.
        seed: ``[1]`` int64, key of the noise.
        offset: how many rows into a larger batch the posteriors stand; the noise is a function of the row there.

    Returns:
        Samples ``[B, D]`` and KL ``[B]``.
    """
    if not offset:
        return sample_kl(posterior.mu, posterior.logvar, seed)
    mu, logvar = (nn.functional.pad(t, (0, 0, offset, 0)) for t in posterior)
    z, kl = sample_kl(mu, logvar, seed)
    return z[offset:], kl[offset:]


def zero_gradients(modules: Sequence[nn.Module]) -> Tensor:
    """Zero that depends on all parameters: modules that a batch does not use get zero gradients instead of none.

    DistributedDataParallel waits for the gradient of every parameter.
    """
    return torch.stack([p.sum() for m in modules for p in m.parameters()]).sum() * 0.0


def shared_rows(a: Rows, b: Rows, n: int) -> tuple[Rows, Rows]:
    """Match two lists of a batch's rows.

    Args:
        a: rows ``[n_a]`` of the batch.
        b: rows ``[n_b]``.
        n: number of samples of the batch.

    Returns:
        Positions in ``a`` and positions in ``b`` of the rows that are in both, in the same order.

    >>> shared_rows(torch.tensor([0, 2, 3]), torch.tensor([3, 4, 0]), 5)
    (tensor([0, 2]), tensor([2, 0]))
    """
    if b is None and a is None:
        return None, None
    if b is None:
        return None, a
    if a is None:
        return b, None
    position_a, position_b = (
        torch.full((n,), -1, device=a.device).scatter_(0, rows, torch.arange(rows.numel(), device=a.device))
        for rows in (a, b)
    )
    both = ((position_a >= 0) & (position_b >= 0)).nonzero()[:, 0]
    return position_a[both], position_b[both]
