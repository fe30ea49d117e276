"""Few 3D labels: training samples of which only a share keeps them, as where 2D is easy to annotate and 3D is not.

The share is drawn sample by sample, not group by group: a few frames of every recording, which is how one would
choose what to annotate. Which they are follows from the run's seed alone.

A run that was trained on the labelled samples can teach the next one: what it sees in the others is wrong as an account
of their pictures, but these are plausible hands at plausible places, and more of them than the labels show. The 2D
joints of these hands are their own, as the camera of the sample sees them, so that 2D and 3D agree exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cvhpe.augmentation.pose_swap import CropRule
from cvhpe.data.loader import Batches
from cvhpe.data.packing.crops import MAX_FRACTION
from cvhpe.data.packing.pack import Pack
from cvhpe.data.packing.rectification import joint_pixels, rectify_pack
from cvhpe.errors import UserError
from cvhpe.evaluation.evaluate import encode, palm_of, refine_absolute_pose, root_relative
from cvhpe.geometry.rectification import pixel_rays
from cvhpe.models.pairs import Pair
from cvhpe.plugin.registry import registry
from cvhpe.plugin.sample import Array
from cvhpe.runs.run_dir import Run, model_fields


def few_labels(pack: Pack, share: float, seed: int, pairs: Sequence[Pair], teacher: Run | None = None) -> Pack:
    """The samples of a pack that pairs can use once only a ``share`` of them has 3D joints.

    Samples without 3D joints serve pairs such as 2D -> 2D; where the run has no such pair, they are left out, and
    what remains is training on the labelled samples alone. Where they stay, the labelled ones are repeated until
    they are half of all, so that every batch has some.

    teacher: puts the hands that it sees in the others in their place (:func:`told`).
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
        arrays |= {name: np.array(arrays[name]) for name in SEEN}
        for name, values in told(teacher, replace(few, rows=hidden)).items():
            arrays[name][hidden] = values
    useful = np.flatnonzero(served(few, pairs))
    unlabelled = np.setdiff1d(useful, kept)
    times = max(1, round(len(unlabelled) / many))
    return few.subset(np.sort(np.concatenate([unlabelled, np.repeat(kept, times)])))


SEEN = ("joints2d", "crop", "has_joints3d")
NEAR = 100.0
"""mm. A hand that a teacher sees nearer to the camera than this, or behind it, is not believed."""


def told(run: Run, pack: Pack) -> dict[str, Array]:
    """What a teacher makes of the samples of a pack: hands of its own, where it sees those of the samples.

    Their 2D joints and crop are what the sample's camera sees of the hand, which therefore agrees with them exactly,
    whatever it has to do with the hand that was photographed.
    """
    poses = predicted(run, pack)
    xyz, K = placed(poses, joint_pixels(pack), pack["K"]), np.nan_to_num(pack["K"].astype(np.float64))
    able = np.isfinite(xyz).all((1, 2)) & (np.nan_to_num(xyz[..., 2]).min(1) > NEAR)
    uv = np.where(able[:, None, None], xyz, [0.0, 0.0, 1.0]) @ K.transpose(0, 2, 1)
    uv = uv[..., :2] / np.where(able[:, None, None], uv[..., 2:], 1.0)
    crop, joints2d = pack["crop"].copy(), pack["joints2d"].copy()
    if able.any():
        crop[able] = CropRule.of([pack]).crop(*(torch.from_numpy(x[able]) for x in (xyz, uv, K))).numpy()
        joints2d[able] = ((uv[able] - crop[able, None, :2]) / crop[able, None, 2:]).clip(-MAX_FRACTION, MAX_FRACTION)
    scale = np.where(able, run.metadata.mean_scale_mm, 1.0)
    return {"joints3d_mm": xyz, "scale_mm": scale, "has_joints3d": able, "joints2d": joints2d, "crop": crop}


def placed(joints: Array, uv: Array, K: Array) -> Array:
    """Joints ``(N, J, 3)`` mm moved, each hand as a whole, to where cameras ``(N, 3, 3)`` see them at ``uv`` px.

    By the translation that minimises the sum of the squared distances of joints from their rays, as if all joints were
    as far away. NaN where there is no camera or fewer than three joints are seen.
    """
    known = np.isfinite(K).all((1, 2)) & (np.abs(np.linalg.det(np.nan_to_num(K))) > 1e-6)
    back = np.linalg.inv(np.where(known[:, None, None], K, np.eye(3)))
    ray = pixel_rays(np.nan_to_num(uv), back)
    ray /= np.linalg.norm(ray, axis=2, keepdims=True)
    counts = np.isfinite(uv).all(2) & np.isfinite(joints).all(2)
    across = counts[..., None, None] * (np.eye(3) - ray[..., :, None] * ray[..., None, :])
    known &= counts.sum(1) >= 3
    whole = np.where(known[:, None, None], across.sum(1), np.eye(3))
    pull = -(across @ np.nan_to_num(joints)[..., None]).sum(1)
    return np.where(known[:, None, None], joints + np.linalg.solve(whole, pull)[:, None, :, 0], np.nan)


def predicted(run: Run, pack: Pack) -> Array:
    """Joints ``(N, J, 3)`` mm that a run sees in the samples of a pack; the root is what it is there, wrist or palm.

    Hands are of the mean size of the run's training hands, their palm is at 0. NaN where the run cannot see the sample,
    as one that knows cameras cannot see a sample without one.
    """
    name = next(p.source for p in run.model.pairs if p.target == "joints3d" and p.source != "joints3d")
    turn: Array | None = None
    if any(modality.frame == "root" for modality in run.model.modalities.values()):
        pack, turn = rectify_pack(pack)
    batches = Batches([pack], model_fields(run.config), 256, shuffle=False)
    palm, found = palm_of(run.metadata.layout), []
    with torch.inference_mode():
        for fields in batches.epoch(0):
            q = encode(run.model, fields, [name], protocol=run.config.protocol, margin=batches.margin)[name]
            joints = run.model.decode("joints3d", q.mu).float().cpu()
            joints = joints * run.model.units(torch.full((len(joints),), run.metadata.mean_scale_mm))[:, None, None]
            joints = refine_absolute_pose(run.model, root_relative(joints, palm.root), fields, [name], batches.margin)
            moved = fields["root_shift_weight"][
                :, None
            ]  # the palm, at 0, is so far on the way from the root to the middle knuckle
            joints[:, palm.root] = -moved / (1 - moved) * joints[:, palm.root_shift_joint]
            found.append(joints.numpy())
    poses = np.concatenate(found)
    for field in registry().modality(name).reads:
        if f"has_{field}" in pack:
            poses[~pack[f"has_{field}"]] = np.nan
    return poses if turn is None else poses @ turn


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
