"""Weights of a run's inputs and the width of its samples, found on held-out hands (see
:mod:`cvhpe.uncertainty.fusion`).

Held-out hands are the run's validation hands or, so that these can judge what was found, its training hands held out
in turn (:mod:`cvhpe.uncertainty.cross_validation`): then they come in several parts, each with the networks that
have not seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.loader import Batches, visible_joints
from cvhpe.data.packing.pack import Pack
from cvhpe.errors import UserError
from cvhpe.evaluation.evaluate import encode, labelled, palm_of, truth_mm
from cvhpe.models.fusion import FusionParams, fuse, sample_latents
from cvhpe.models.pairs import sources, targets
from cvhpe.plugin.contract import Posterior
from cvhpe.runs.run_dir import Run, save_run
from cvhpe.uncertainty.coverage import LEVELS, SAMPLES, coverage, reach
from cvhpe.uncertainty.fusion import (
    CALIBRATION,
    Calibration,
    SampleScaling,
    calibration_of,
    fusion_params,
    modality_subsets,
    spread_as,
    together,
)
from cvhpe.uncertainty.fusion_fit import EncodedSet, best_fusion
from cvhpe.uncertainty.tta_disagreement import encode_tta, joints_mm, tta_std

MOST_FRAMES = 500
DOFS = (0.0, 30.0, 15.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0)
"""Tails that are tried; 0 has none."""
ROUNDS = 4


@dataclass(frozen=True)
class Drawn:
    """Decoded samples less their prediction ``[N, B, J, 3]``; the truth less it ``[B, J, 3]``; which joints count."""

    samples: Tensor
    truth: Tensor
    counted: Tensor


MicroBatch = tuple[Run, Sequence[Pack]]
"""EncodedSet-out hands, and a run that has not seen them."""


def calibrate(run: Run, packs: Sequence[Pack], turns: int = 0) -> Calibration | None:
    """The calibration of a run on held-out hands that have all its inputs; None where no hand has, or no 3D comes out.

    Of more than :data:`MOST_FRAMES` hands an even share is looked at. turns: how often hands are turned to see how
    sure predictions are of each (:mod:`cvhpe.uncertainty.tta_disagreement`); 0 leaves that to the posteriors.
    """
    return calibrate_parts([(run, packs)], "validation", turns=turns)


def calibrate_parts(
    parts: Sequence[MicroBatch], hands: str, of: MicroBatch | None = None, turns: int = 0
) -> Calibration | None:
    """What :func:`calibrate` finds, of several runs that are alike; ``hands`` says whose hands they are.

    of: another run, that the calibration is for, and hands that it was trained on; each input by itself. Runs trained
    for a shorter time are about as wrong on new hands, but less sure of themselves. So what is carried over is how wide
    samples are in mm, by their typical spread: that of ``parts`` on hands they have not seen, and of ``of`` on those it
    has.
    """
    one = parts[0][0]
    names = inputs_beside_truth(one)
    if "joints3d" not in targets(one.model.pairs) or not names:
        return None
    held = gathered(parts, names, turns)
    if not held:
        return None

    own = gathered([of], names, turns) if of else []
    fusions: dict[str, FusionParams] = {}
    widths: dict[str, SampleScaling] = {}
    # Several inputs are fused in the latent space of one run, the one that they are fused for.
    one_space = of is None and len(held) == 1
    for chosen in modality_subsets(names) if one_space else [(name,) for name in names]:
        how = FusionParams()
        if len(chosen) > 1:
            how = fusions[together(chosen)] = best_fusion(*held[0], chosen)
        found = [drawn_of(run, part, chosen, how) for run, part in held]
        known = [drawn_of(run, part, chosen, how) for run, part in own]
        width = replace(width_of(found), turns=turns)
        if known:
            width = replace(width, scale=width.scale * typical(found) / typical(known))
        widths[together(chosen)] = width
    return Calibration(fusions, widths, sum(len(part.scale) for _, part in held), hands)


def inputs_beside_truth(run: Run) -> list[str]:
    """The inputs of a run other than the 3D joints themselves."""
    return [name for name in sources(run.model.pairs) if name != "joints3d"]


def gathered(parts: Sequence[MicroBatch], names: Sequence[str], turns: int = 0) -> list[tuple[Run, EncodedSet]]:
    """The parts that have such hands, encoded."""
    return [(run, found) for run, packs in parts if (found := gather(run, packs, names, turns)) is not None]


def gather(run: Run, packs: Sequence[Pack], names: Sequence[str], turns: int = 0) -> EncodedSet | None:
    """Encode the hands of ``packs`` that have 3D joints and every input of ``names``, also ``turns`` times turned."""
    reads = tuple(dict.fromkeys(f for n in names for f in run.model.modalities[n].reads))
    batches = Batches(packs, tuple(dict.fromkeys((*reads, "joints3d"))), 256, seed=0, shuffle=False)
    stride = max(1, -(-batches.samples // MOST_FRAMES))
    palm, protocol = palm_of(run.metadata.layout), run.config.protocol
    found: list[EncodedSet] = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(0, batches.samples, stride), -(-batches.samples // stride // 256) or 1):
            fields = batches.batch(rows)
            keep = labelled(fields, reads)
            fields = {n: t[keep] for n, t in fields.items()}
            if not len(fields["side"]):
                continue
            posteriors = encode(run.model, fields, names, protocol=protocol, margin=batches.margin)
            scale = run.model.units(fields["scale_mm"])
            visible = visible_joints(fields)
            again = encode_tta(run, fields, names, batches.margin, turns) if turns else ()
            found.append(EncodedSet(posteriors, truth_mm(fields, palm), scale, visible, again))
    if not found:
        return None
    truth, scale, visible = (torch.cat([getattr(h, k) for h in found]) for k in ("truth", "scale", "visible"))
    views = zip(*(h.again for h in found), strict=True)
    again = [replace(view[0], posteriors=joined([one.posteriors for one in view])) for view in views]
    return EncodedSet(joined([h.posteriors for h in found]), truth, scale, visible, again)


def joined(parts: Sequence[Mapping[str, Posterior]]) -> dict[str, Posterior]:
    """The posteriors of all hands, of those of some hands at a time."""
    return {
        name: Posterior(torch.cat([one[name].mu for one in parts]), torch.cat([one[name].logvar for one in parts]))
        for name in parts[0]
    }


def width_of(drawn: Sequence[Drawn]) -> SampleScaling:
    """How wide samples must be for their regions (:mod:`cvhpe.uncertainty.coverage`) to hold the truth as often as
    they say."""
    return min((scaled(drawn, dof) for dof in DOFS), key=lambda found: found[0])[1]


def typical(drawn: Sequence[Drawn]) -> float:
    """The typical spread of samples, mm: geometric mean over joints of the root mean square distance."""
    spreads = [d.samples.square().sum(-1).mean(0).sqrt()[d.counted] for d in drawn]
    return float(torch.cat(spreads).clamp_min(1e-9).log().mean().exp())


def drawn_of(run: Run, held: EncodedSet, names: Sequence[str], how: FusionParams) -> Drawn:
    """Samples of held-out hands from some inputs, as they come or, where the hands were seen again, as wide as that
    says; the root joint does not count.
    """
    posterior = fuse({name: held.posteriors[name] for name in names}, **how)
    with torch.inference_mode():
        centre = joints_mm(run, posterior.mu, held.scale)
        latents = sample_latents(posterior, SAMPLES, torch.Generator().manual_seed(0))
        samples = joints_mm(run, latents, held.scale) - centre
        if held.again:
            samples = spread_as(samples, tta_std(run, held.again, names, how, held.scale))
    counted = held.visible.clone()
    counted[:, palm_of(run.metadata.layout).root] = False
    return Drawn(samples, held.truth - centre, counted)


def scaled(drawn: Sequence[Drawn], dof: float) -> tuple[float, SampleScaling]:
    """The best scale for tails ``dof``, and how far it leaves the shares of :data:`LEVELS` from what they should be."""
    width, missed = SampleScaling(1.0, dof), torch.zeros(1)
    # In rounds: a region's middle, the samples' mean, moves with the scale a little.
    for _ in range(ROUNDS):
        reaches = [reach(width.rescale_samples(d.samples, torch.zeros_like(d.truth)), d.truth, LEVELS) for d in drawn]
        far = torch.cat([r[:, d.counted] for r, d in zip(reaches, drawn, strict=True)], 1).double()
        tried = far[0].median() * torch.logspace(-0.5, 0.5, 401, dtype=torch.float64)
        within = torch.searchsorted(far.sort(1).values, tried.expand(len(LEVELS), -1).contiguous(), right=True)
        missed = (within / far.shape[1] - torch.tensor(LEVELS, dtype=torch.float64)[:, None]).square().sum(0)
        width = SampleScaling(width.scale * float(tried[missed.argmin()]), dof)
    return float(missed.min()), width


def covered(run: Run, packs: Sequence[Pack], names: Sequence[str], width: SampleScaling) -> list[float]:
    """Share of the labelled joints inside each region of :mod:`cvhpe.uncertainty.coverage`, for predictions from
    inputs.

    Inputs are fused as the run's calibration says; the root joint does not count. UserError where no hand has all.
    """
    held = gather(run, packs, names, width.turns)
    if held is None:
        raise UserError(f"no held-out hand has {' and '.join(names)} and 3D joints")
    drawn = drawn_of(run, held, names, fusion_params(calibration_of(run.metadata.training), names))
    wide = replace(width, turns=0).rescale_samples(drawn.samples, torch.zeros_like(drawn.truth))
    return coverage(wide, drawn.truth, drawn.counted)


def calibrate_run(run: Run, found: Calibration | None) -> Run:
    """Write a calibration beside a run's weights, and return the run with it."""
    if found is None:
        return run
    metadata = replace(run.metadata, training={**run.metadata.training, CALIBRATION: found.as_dict()})
    save_run(run.path, run.model, run.config, metadata, run.baselines)
    return replace(run, metadata=metadata)
