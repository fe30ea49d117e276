"""Few 3D labels: training samples of which only a share keeps them, as where 2D is easy to annotate and 3D is not.

The share is drawn sample by sample, not group by group: a few frames of every recording, which is how one would
choose what to annotate. Which they are follows from the run's seed alone.

A run that was trained on the labelled samples can teach the next one: the poses that it sees in the others are wrong as
an account of their pictures, but as poses they are plausible hands, and more of them than the labels show. Put in other
hands' places (:mod:`cvhpe.swap`) and projected there, they and their 2D joints agree exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cvhpe.data.loader import Batches
from cvhpe.data.pack import Pack
from cvhpe.data.rectify import rectified
from cvhpe.data.sample import Array
from cvhpe.errors import UserError
from cvhpe.evaluate import encode, palm_of, refined, rooted
from cvhpe.pairs import Pair
from cvhpe.registry import registry
from cvhpe.run import Run, model_fields


def few_labels(pack: Pack, share: float, seed: int, pairs: Sequence[Pair], teacher: Run | None = None) -> Pack:
    """The samples of a pack that pairs can use once only a ``share`` of them has 3D joints.

    Samples without 3D joints serve pairs such as 2D -> 2D; where the run has no such pair, they are left out, and
    what remains is training on the labelled samples alone. Where they stay, the labelled ones are repeated until
    they are half of all, so that every batch has some.

    teacher: gives the others the 3D joints that it predicts for them, and takes away the camera they were seen by: they
    take part in other places only.
    """
    rows = np.arange(pack.meta.count) if pack.rows is None else pack.rows
    labelled = np.flatnonzero(pack["has_joints3d"])
    many = round(share * len(labelled))
    if not many:
        raise UserError(f"labelled {share}: of {len(labelled)} samples with 3D joints that leaves none")
    kept = np.random.default_rng([seed, 3]).permutation(labelled)[:many]
    hidden = rows[np.setdiff1d(np.arange(len(rows)), kept)]
    arrays = dict(pack.arrays)
    for name, nothing in (("joints3d_mm", np.nan), ("has_joints3d", False), ("scale_mm", 1.0)):
        arrays[name] = np.array(arrays[name])
        arrays[name][hidden] = nothing
    few = replace(pack, arrays=arrays)
    if teacher is not None:
        arrays["K"], arrays["has_joints3d"] = np.array(arrays["K"]), arrays["has_joints3d"].copy()
        poses = predicted(teacher, replace(few, rows=hidden))
        arrays["joints3d_mm"][hidden], arrays["scale_mm"][hidden] = poses, teacher.facts.mean_scale_mm
        arrays["has_joints3d"][hidden], arrays["K"][hidden] = np.isfinite(poses).all((1, 2)), 0.0
    useful = np.flatnonzero(served(few, pairs))
    unlabelled = np.setdiff1d(useful, kept)
    times = max(1, round(len(unlabelled) / many))
    return few.subset(np.sort(np.concatenate([unlabelled, np.repeat(kept, times)])))


def predicted(run: Run, pack: Pack) -> Array:
    """Joints ``(N, J, 3)`` mm that a run sees in the samples of a pack; the root is what it is there, wrist or palm.

    Hands are of the mean size of the run's training hands, their palm is at 0. NaN where the run cannot see the sample,
    as one that knows cameras cannot see a sample without one.
    """
    name = next(p.source for p in run.model.pairs if p.target == "joints3d" and p.source != "joints3d")
    if any(modality.frame == "root" for modality in run.model.modalities.values()):
        pack = rectified(pack)  # a pose is put in another place anyway: from where it is seen here does not matter
    batches = Batches([pack], model_fields(run.config), 256, shuffle=False)
    palm, found = palm_of(run.facts.layout), []
    with torch.inference_mode():
        for fields in batches.epoch(0):
            q = encode(run.model, fields, [name], protocol=run.config.protocol, margin=batches.margin)[name]
            joints = run.model.decode("joints3d", q.mu).float().cpu()
            joints = joints * run.model.units(torch.full((len(joints),), run.facts.mean_scale_mm))[:, None, None]
            joints = refined(run.model, rooted(joints, palm.root), fields, [name], batches.margin)
            moved = fields["palm"][:, None]  # the palm, at 0, is so far on the way from the root to the middle knuckle
            joints[:, palm.root] = -moved / (1 - moved) * joints[:, palm.toward]
            found.append(joints.numpy())
    poses = np.concatenate(found)
    for field in registry().modality(name).reads:
        if f"has_{field}" in pack:
            poses[~pack[f"has_{field}"]] = np.nan
    return poses


def served(pack: Pack, pairs: Sequence[Pair]) -> Array:
    """``(N,)`` bool: the samples that have all that one of the pairs needs."""
    found = np.zeros(len(pack), bool)
    for pair in pairs:
        has = np.ones(len(pack), bool)
        for name in pair:
            for field in registry().modality(name).reads:
                if f"has_{field}" in pack:
                    has &= pack[f"has_{field}"]
        found |= has
    return found
