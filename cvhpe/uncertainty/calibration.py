"""Calibrate a run on held-out hands: fit the fusion of its inputs and the scaling of its posterior samples.

The held-out hands are the validation hands, or training hands held out by cross-validation
(:mod:`cvhpe.uncertainty.cross_validation`). In that case each fold comes with its own network.
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
from cvhpe.geometry.skeleton import layout
from cvhpe.models.fusion import FusionParams, fuse, sample_latents
from cvhpe.models.pairs import sources, targets
from cvhpe.plugin.contract import Posterior
from cvhpe.runs.run_dir import Run, save_run
from cvhpe.uncertainty.coverage import LEVELS, NUM_SAMPLES, coverage, normalised_radius
from cvhpe.uncertainty.fusion import (
    CALIBRATION,
    Calibration,
    calibration_of,
    fusion_params,
    input_key,
    modality_subsets,
)
from cvhpe.uncertainty.fusion_fit import EncodedSet, best_fusion
from cvhpe.uncertainty.sample_scaling import SampleScaling
from cvhpe.uncertainty.tta_disagreement import decode_joints_mm, encode_tta, tta_std

MAX_HANDS = 500
"""Of more hands, evenly spaced ones are used."""
DOFS = (0.0, 30.0, 15.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0)
"""Degrees of freedom that are tried; 0 is Gaussian."""
ROUNDS = 4

HeldOut = tuple[Run, Sequence[Pack]]
"""A run, and hands that it was not trained on."""


@dataclass(frozen=True)
class SampleDeviations:
    """Posterior samples and truth of ``B`` hands, relative to the prediction.

    Attributes:
        samples: ``[N, B, J, 3]`` mm.
        truth: ``[B, J, 3]`` mm.
        counted: ``[B, J]`` bool, joints that count; the root does not.
    """

    samples: Tensor
    truth: Tensor
    counted: Tensor


def calibrate(run: Run, packs: Sequence[Pack], tta_angles: int = 0) -> Calibration | None:
    """Calibrate a run on held-out hands that have all its inputs.

    Args:
        run: The run.
        packs: The hands.
        tta_angles: Rescale samples to the TTA disagreement over this many angles first; 0 uses the posterior alone.

    Returns:
        The calibration; None if no hand has all inputs, or the run decodes no 3D joints.
    """
    return calibrate_folds([(run, packs)], "validation", tta_angles=tta_angles)


def calibrate_folds(
    folds: Sequence[HeldOut], split: str, target: HeldOut | None = None, tta_angles: int = 0
) -> Calibration | None:
    """Calibrate on the held-out hands of several runs of one configuration.

    The networks of folds are trained for shorter than ``target``. Their errors on new hands are similar, but they are
    less confident. So the size of samples in mm is transferred: the scale is multiplied by the ratio of geometric-mean
    RMS deviations, of the folds' samples on held-out hands over the target's on its training hands.

    Args:
        folds: Runs and hands held out from them.
        split: Name of the hands, ``validation`` or ``training``.
        target: The run to calibrate and its training hands. Then single inputs are calibrated only.
        tta_angles: As in :func:`calibrate`.

    Returns:
        The calibration; None if no hand has all inputs, or the runs decode no 3D joints.
    """
    run = folds[0][0]
    names = [name for name in sources(run.model.pairs) if name != "joints3d"]
    if "joints3d" not in targets(run.model.pairs) or not names:
        return None
    held_out = _encode_all(folds, names, tta_angles)
    if not held_out:
        return None
    training = _encode_all([target], names, tta_angles) if target else []
    fusions: dict[str, FusionParams] = {}
    scalings: dict[str, SampleScaling] = {}
    # A fusion belongs to the latent space of one run.
    is_one_run = target is None and len(held_out) == 1
    for subset in modality_subsets(names) if is_one_run else [(name,) for name in names]:
        fusion = FusionParams()
        if len(subset) > 1:
            fusion = fusions[input_key(subset)] = best_fusion(*held_out[0], subset)
        deviations = [sample_deviations(fold, encoded, subset, fusion) for fold, encoded in held_out]
        scaling = replace(fit_scaling(deviations), tta_angles=tta_angles)
        if training:
            own = [sample_deviations(fold, encoded, subset, fusion) for fold, encoded in training]
            scaling = replace(scaling, scale=scaling.scale * _joint_rms(deviations) / _joint_rms(own))
        scalings[input_key(subset)] = scaling
    return Calibration(fusions, scalings, sum(len(encoded.scale) for _, encoded in held_out), split)


def save_calibration(run: Run, calibration: Calibration | None) -> Run:
    """Save a calibration with a run's weights.

    Args:
        run: The run; its model file is rewritten.
        calibration: None changes nothing.

    Returns:
        The run with the calibration.
    """
    if calibration is None:
        return run
    metadata = replace(run.metadata, training={**run.metadata.training, CALIBRATION: calibration.as_dict()})
    save_run(run.path, run.model, run.config, metadata, run.baselines)
    return replace(run, metadata=metadata)


def measure_coverage(run: Run, packs: Sequence[Pack], names: Sequence[str], scaling: SampleScaling) -> list[float]:
    """Share of labelled joints inside the credible regions of rescaled samples.

    Args:
        run: The run; several inputs are fused by its calibration.
        packs: Held-out hands.
        names: Input modalities.
        scaling: Scaling of the samples.

    Returns:
        A share for each of :data:`cvhpe.uncertainty.coverage.LEVELS`.

    Raises:
        UserError: No hand has all inputs and 3D joints.
    """
    encoded = encode_hands(run, packs, names, scaling.tta_angles)
    if encoded is None:
        raise UserError(f"no held-out hand has {' and '.join(names)} and 3D joints")
    fusion = fusion_params(calibration_of(run.metadata.training), names)
    deviations = sample_deviations(run, encoded, names, fusion)
    return coverage(_rescale(deviations, scaling), deviations.truth, deviations.counted)


def encode_hands(run: Run, packs: Sequence[Pack], names: Sequence[str], tta_angles: int = 0) -> EncodedSet | None:
    """Encode the hands that have 3D joints and some inputs, at most :data:`MAX_HANDS`.

    Args:
        run: The run.
        packs: The hands.
        names: Input modalities.
        tta_angles: Number of angles of TTA views; 0 encodes none.

    Returns:
        The encoded hands; None if there are none.
    """
    reads = tuple(dict.fromkeys(f for n in names for f in run.model.modalities[n].reads))
    batches = Batches(packs, tuple(dict.fromkeys((*reads, "joints3d"))), 256, seed=0, shuffle=False)
    stride = max(1, -(-batches.samples // MAX_HANDS))
    palm, protocol = palm_of(run.metadata.layout), run.config.protocol
    parts: list[EncodedSet] = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(0, batches.samples, stride), -(-batches.samples // stride // 256) or 1):
            fields = batches.batch(rows)
            keep = labelled(fields, reads)
            fields = {n: t[keep] for n, t in fields.items()}
            if not len(fields["side"]):
                continue
            posteriors = encode(run.model, fields, names, protocol=protocol, margin=batches.margin)
            scale, visible = run.model.units(fields["scale_mm"]), visible_joints(fields)
            views = encode_tta(run, fields, names, batches.margin, tta_angles) if tta_angles else ()
            parts.append(EncodedSet(posteriors, truth_mm(fields, palm), scale, visible, views))
    if not parts:
        return None
    truth, scale, visible = (torch.cat([getattr(part, k) for part in parts]) for k in ("truth", "scale", "visible"))
    views = [
        replace(view[0], posteriors=_concatenate([v.posteriors for v in view]))
        for view in zip(*(part.views for part in parts), strict=True)
    ]
    return EncodedSet(_concatenate([part.posteriors for part in parts]), truth, scale, visible, views)


def sample_deviations(run: Run, encoded: EncodedSet, names: Sequence[str], fusion: FusionParams) -> SampleDeviations:
    """Sample posteriors of held-out hands, rescaled to the TTA disagreement if ``encoded`` has views.

    Args:
        run: The run.
        encoded: The hands.
        names: Input modalities.
        fusion: Parameters of their fusion.

    Returns:
        Deviations from the prediction.
    """
    posterior = fuse({name: encoded.posteriors[name] for name in names}, **fusion)
    with torch.inference_mode():
        centre = decode_joints_mm(run, posterior.mu, encoded.scale)
        latents = sample_latents(posterior, NUM_SAMPLES, torch.Generator().manual_seed(0))
        samples = decode_joints_mm(run, latents, encoded.scale) - centre
        if encoded.views:
            disagreement = tta_std(run, encoded.views, names, fusion, encoded.scale)
            tta = SampleScaling(tta_angles=1)
            samples = tta.rescale_samples(samples, torch.zeros_like(centre), disagreement=disagreement)
    counted = encoded.visible.clone()
    counted[:, layout(run.metadata.layout).root] = False
    return SampleDeviations(samples, encoded.truth - centre, counted)


def fit_scaling(deviations: Sequence[SampleDeviations]) -> SampleScaling:
    """The scale and degrees of freedom whose coverage is nearest to :data:`LEVELS`, in the least-squares sense."""
    return min((_fit_scale(deviations, dof) for dof in DOFS), key=lambda fit: fit[0])[1]


def _fit_scale(deviations: Sequence[SampleDeviations], dof: float) -> tuple[float, SampleScaling]:
    """The least squared error of the coverage with given degrees of freedom, and the scaling that has it."""
    scaling, losses = SampleScaling(1.0, dof), torch.zeros(1)
    # Several rounds, since the centre of a region, the samples' mean, depends on the scale a little.
    for _ in range(ROUNDS):
        radii = [normalised_radius(_rescale(d, scaling), d.truth, LEVELS)[:, d.counted] for d in deviations]
        radius = torch.cat(radii, 1).double()
        factors = radius[0].median() * torch.logspace(-0.5, 0.5, 401, dtype=torch.float64)
        inside = torch.searchsorted(radius.sort(1).values, factors.expand(len(LEVELS), -1).contiguous(), right=True)
        error = inside / radius.shape[1] - torch.tensor(LEVELS, dtype=torch.float64)[:, None]
        losses = error.square().sum(0)
        scaling = SampleScaling(scaling.scale * float(factors[losses.argmin()]), dof)
    return float(losses.min()), scaling


def _rescale(deviations: SampleDeviations, scaling: SampleScaling) -> Tensor:
    """Rescaled samples; the TTA disagreement is in the deviations already."""
    return replace(scaling, tta_angles=0).rescale_samples(deviations.samples, torch.zeros_like(deviations.truth))


def _joint_rms(deviations: Sequence[SampleDeviations]) -> float:
    """Geometric mean over hands and joints of the RMS deviation of samples, mm."""
    rms = [d.samples.square().sum(-1).mean(0).sqrt()[d.counted] for d in deviations]
    return float(torch.cat(rms).clamp_min(1e-9).log().mean().exp())


def _encode_all(folds: Sequence[HeldOut], names: Sequence[str], tta_angles: int) -> list[tuple[Run, EncodedSet]]:
    """The folds that have hands with all inputs, encoded."""
    encoded = [(run, encode_hands(run, packs, names, tta_angles)) for run, packs in folds]
    return [(run, hands) for run, hands in encoded if hands is not None]


def _concatenate(parts: Sequence[Mapping[str, Posterior]]) -> dict[str, Posterior]:
    """Posteriors of several batches as one."""
    return {name: Posterior(*(torch.cat(t) for t in zip(*(p[name] for p in parts), strict=True))) for name in parts[0]}
