"""Weights of a run's inputs and the size of its uncertainty, found on held-out hands (see :mod:`cvhpe.fusion`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.loader import Batches
from cvhpe.data.pack import Pack
from cvhpe.evaluate import encode, labelled, palm_of, truth_mm
from cvhpe.fusion import CALIBRATION, SPREAD_SAMPLES, Calibration, combinations, draw, fuse, search, spread
from cvhpe.metrics import errors
from cvhpe.modality import Posterior
from cvhpe.pairs import sources, targets
from cvhpe.run import Run, save_run

MOST_FRAMES = 1000


@dataclass(frozen=True)
class Held:
    """Held-out hands, encoded: a posterior ``[N, D]`` an input, and ``[N, J, 3]`` mm of truth.

    scale: ``[N]`` mm, what predictions in bones are multiplied by.
    """

    posteriors: Mapping[str, Posterior]
    truth: Tensor
    scale: Tensor
    visible: Tensor


def calibrate(run: Run, packs: Sequence[Pack]) -> Calibration | None:
    """The calibration of a run on held-out hands that have all its inputs; None where no hand has, or no 3D comes out.

    Of more than :data:`MOST_FRAMES` hands an even share is looked at.
    """
    names = inputs_beside_truth(run)
    if "joints3d" not in targets(run.model.pairs) or not names:
        return None
    held = gather(run, packs, names)
    if held is None:
        return None

    def score(weights: Mapping[str, float]) -> float:
        e = error(run, held, fuse(held.posteriors, weights))
        return float(np.median(e) + e.mean())

    weights = search(score, names) if len(names) > 1 else {}
    factors = {}
    for chosen in combinations(names):
        posterior = fuse({n: held.posteriors[n] for n in chosen}, weights)
        factors[",".join(chosen)] = spread_factor(run, held, posterior)
    return Calibration(weights, factors, len(held.scale))


def inputs_beside_truth(run: Run) -> list[str]:
    """The inputs of a run other than the 3D joints themselves."""
    return [name for name in sources(run.model.pairs) if name != "joints3d"]


def gather(run: Run, packs: Sequence[Pack], names: Sequence[str]) -> Held | None:
    """Encode the hands of ``packs`` that have 3D joints and every input of ``names``."""
    reads = tuple(dict.fromkeys(f for n in names for f in run.model.modalities[n].reads))
    batches = Batches(packs, tuple(dict.fromkeys((*reads, "joints3d"))), 256, seed=0, shuffle=False)
    stride = max(1, -(-batches.samples // MOST_FRAMES))
    palm, protocol = palm_of(run.facts.layout), run.config.protocol
    found: list[Held] = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(0, batches.samples, stride), -(-batches.samples // stride // 256) or 1):
            fields = batches.batch(rows)
            keep = labelled(fields, reads)
            fields = {n: t[keep] for n, t in fields.items()}
            if not len(fields["side"]):
                continue
            posteriors = encode(run.model, fields, names, protocol=protocol, margin=batches.margin)
            scale = run.model.units(fields["scale_mm"])
            visible = fields["visible"] & fields["joints3d"].isfinite().all(-1)
            found.append(Held(posteriors, truth_mm(fields, palm), scale, visible))
    if not found:
        return None
    joined = {
        n: Posterior(torch.cat([h.posteriors[n].mu for h in found]), torch.cat([h.posteriors[n].logvar for h in found]))
        for n in names
    }
    truth, scale, visible = (torch.cat([getattr(h, k) for h in found]) for k in ("truth", "scale", "visible"))
    return Held(joined, truth, scale, visible)


def joints_mm(run: Run, z: Tensor, scale: Tensor) -> Tensor:
    """3D joints ``[..., J, 3]`` mm of latents ``[..., D]``, with bone lengths ``scale`` that broadcast to ``[...]``."""
    flat = run.model.decode("joints3d", z.reshape(-1, z.shape[-1])).float().cpu()
    return flat.unflatten(0, z.shape[:-1]) * scale[..., None, None]


def error(run: Run, held: Held, posterior: Posterior) -> np.ndarray:
    """End-point errors mm of all visible joints, one long array."""
    with torch.inference_mode():
        predicted = joints_mm(run, posterior.mu, held.scale)
    return errors(predicted.numpy(), held.truth.nan_to_num().numpy())[held.visible.numpy()]


def spread_factor(run: Run, held: Held, posterior: Posterior) -> float:
    """Root mean square error over that of the spread of samples; the root joint, which has neither, is left out."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        mean = joints_mm(run, posterior.mu, held.scale)
        samples = joints_mm(run, draw(posterior, SPREAD_SAMPLES, generator), held.scale)
    counted = held.visible.clone()
    counted[:, palm_of(run.facts.layout).root] = False
    wide = spread(samples, mean)[counted].square().mean().sqrt()
    far = (mean - held.truth).square().sum(-1)[counted].mean().sqrt()
    return float(far / wide) if wide > 0 else 1.0


def calibrate_run(run: Run, packs: Sequence[Pack]) -> Run:
    """Calibrate a run on held-out hands, write what was found beside its weights, and return it so."""
    found = calibrate(run, packs)
    if found is None:
        return run
    facts = replace(run.facts, training={**run.facts.training, CALIBRATION: found.as_dict()})
    save_run(run.path, run.model, run.config, facts, run.baselines)
    return replace(run, facts=facts)
