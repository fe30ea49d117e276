"""Few 3D labels: only a fraction of the training samples keeps its 3D joints, as where 2D is easier to annotate.

Samples are chosen one by one, not by groups: a few frames of every recording, as an annotator would choose them. The
choice depends on the run's seed alone.

A run that was trained on the labelled samples can predict pseudo-labels for the others. As labels of their images these
are wrong, but they are plausible hands at plausible places, and more of them than the labels show. Their 2D joints are
projected by the sample's camera, so that 2D and 3D agree exactly.
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

PSEUDO_FIELDS = ("joints2d", "crop", "has_joints3d")
MIN_DEPTH_MM = 100.0
"""Pseudo-labels nearer to the camera than this, or behind it, are dropped."""


def few_labels(pack: Pack, fraction: float, seed: int, pairs: Sequence[Pair], labeller: Run | None = None) -> Pack:
    """Hide 3D joints of a pack.

    Samples without 3D joints serve pairs such as 2D -> 2D. If no pair can use them, they are left out. Otherwise the
    labelled ones are repeated until they are half of all, so that every batch has some.

    Args:
        pack: training samples.
        fraction: fraction of the samples with 3D joints that keep them.
        seed: of the run.
        pairs: of the run.
        labeller: a run that predicts pseudo-labels for the others (:func:`pseudo_labels`).

    Returns:
        The samples that the pairs can use.

    Raises:
        UserError: If no sample would keep its 3D joints.
    """
    rows = np.arange(pack.meta.count) if pack.rows is None else pack.rows
    labelled = np.flatnonzero(pack["has_joints3d"])
    num_kept = round(fraction * len(labelled))
    if not num_kept:
        raise UserError(f"label_fraction {fraction}: of {len(labelled)} samples with 3D joints that leaves none")
    kept = np.random.default_rng([seed, 3]).permutation(labelled)[:num_kept]
    hidden = rows[np.setdiff1d(np.arange(len(rows)), kept)]
    arrays = dict(pack.arrays)
    for name, missing in (("joints3d_mm", np.nan), ("has_joints3d", False), ("scale_mm", 1.0)):
        arrays[name] = np.array(arrays[name])
        arrays[name][hidden] = missing
    few = replace(pack, arrays=arrays)
    if labeller is not None:
        arrays |= {name: np.array(arrays[name]) for name in PSEUDO_FIELDS}
        for name, values in pseudo_labels(labeller, replace(few, rows=hidden)).items():
            arrays[name][hidden] = values
    unlabelled = np.setdiff1d(np.flatnonzero(is_usable(few, pairs)), kept)
    repeats = max(1, round(len(unlabelled) / num_kept))
    return few.subset(np.sort(np.concatenate([unlabelled, np.repeat(kept, repeats)])))


def pseudo_labels(run: Run, pack: Pack) -> dict[str, Array]:
    """Hands that a run predicts for samples, at the places of the samples' own hands.

    Args:
        run: predicts the poses.
        pack: N samples.

    Returns:
        Field -> ``(N, ...)``: 3D joints, and 2D joints and crop as the sample's camera projects them.
    """
    poses = predict_poses(run, pack)
    xyz, K = place_at_pixels(poses, joint_pixels(pack), pack["K"]), np.nan_to_num(pack["K"].astype(np.float64))
    valid = np.isfinite(xyz).all((1, 2)) & (np.nan_to_num(xyz[..., 2]).min(1) > MIN_DEPTH_MM)
    uv = np.where(valid[:, None, None], xyz, [0.0, 0.0, 1.0]) @ K.transpose(0, 2, 1)
    uv = uv[..., :2] / np.where(valid[:, None, None], uv[..., 2:], 1.0)
    crop, joints2d = pack["crop"].copy(), pack["joints2d"].copy()
    if valid.any():
        crop[valid] = CropRule.of([pack]).crop(*(torch.from_numpy(x[valid]) for x in (xyz, uv, K))).numpy()
        fractions = (uv[valid] - crop[valid, None, :2]) / crop[valid, None, 2:]
        joints2d[valid] = fractions.clip(-MAX_FRACTION, MAX_FRACTION)
    scale = np.where(valid, run.metadata.mean_scale_mm, 1.0)
    return {"joints3d_mm": xyz, "scale_mm": scale, "has_joints3d": valid, "joints2d": joints2d, "crop": crop}


def place_at_pixels(joints: Array, uv: Array, K: Array) -> Array:
    """Translate hands to where their cameras see them.

    The translation minimises the sum of the squared distances of the joints from their pixels' rays.

    Args:
        joints: ``(N, J, 3)`` mm.
        uv: ``(N, J, 2)`` px of the joints; NaN where a joint is not labelled.
        K: ``(N, 3, 3)`` intrinsics.

    Returns:
        ``(N, J, 3)`` mm in the camera frame; NaN without a camera or with fewer than three labelled joints.
    """
    valid = np.isfinite(K).all((1, 2)) & (np.abs(np.linalg.det(np.nan_to_num(K))) > 1e-6)
    inverse_K = np.linalg.inv(np.where(valid[:, None, None], K, np.eye(3)))
    ray = pixel_rays(np.nan_to_num(uv), inverse_K)
    ray /= np.linalg.norm(ray, axis=2, keepdims=True)
    labelled = np.isfinite(uv).all(2) & np.isfinite(joints).all(2)
    projector = labelled[..., None, None] * (np.eye(3) - ray[..., :, None] * ray[..., None, :])
    valid &= labelled.sum(1) >= 3
    A = np.where(valid[:, None, None], projector.sum(1), np.eye(3))
    b = -(projector @ np.nan_to_num(joints)[..., None]).sum(1)
    return np.where(valid[:, None, None], joints + np.linalg.solve(A, b)[:, None, :, 0], np.nan)


def predict_poses(run: Run, pack: Pack) -> Array:
    """Predict hands of the mean size of the run's training hands, the palm at 0.

    Args:
        run: its first input other than 3D joints is used.
        pack: N samples.

    Returns:
        ``(N, J, 3)`` mm; the root joint is what it is in the pack, wrist or palm. NaN if a sample lacks the input.
    """
    name = next(p.source for p in run.model.pairs if p.target == "joints3d" and p.source != "joints3d")
    rotation: Array | None = None
    if any(modality.frame == "root" for modality in run.model.modalities.values()):
        pack, rotation = rectify_pack(pack)
    loader = Batches([pack], model_fields(run.config), 256, shuffle=False)
    palm, batches = palm_of(run.metadata.layout), []
    with torch.inference_mode():
        for fields in loader.epoch(0):
            q = encode(run.model, fields, [name], protocol=run.config.protocol, margin=loader.margin)[name]
            joints = run.model.decode("joints3d", q.mu).float().cpu()
            joints = joints * run.model.units(torch.full((len(joints),), run.metadata.mean_scale_mm))[:, None, None]
            joints = refine_absolute_pose(run.model, root_relative(joints, palm.root), fields, [name], loader.margin)
            # The palm, at 0, is root + weight * (knuckle - root): solve for the root.
            weight = fields["root_shift_weight"][:, None]
            joints[:, palm.root] = -weight / (1 - weight) * joints[:, palm.root_shift_joint]
            batches.append(joints.numpy())
    poses = np.concatenate(batches)
    poses[~has_modality(pack, name)] = np.nan
    return poses if rotation is None else poses @ rotation


def is_usable(pack: Pack, pairs: Sequence[Pair]) -> Array:
    """Which samples have both modalities of a pair.

    Args:
        pack: N samples.
        pairs: of the run.

    Returns:
        ``(N,)`` bool.
    """
    return np.any([has_modality(pack, p.source) & has_modality(pack, p.target) for p in pairs], axis=0)


def has_modality(pack: Pack, name: str) -> Array:
    """Which samples have all fields that a modality reads.

    Args:
        pack: N samples.
        name: a modality.

    Returns:
        ``(N,)`` bool.
    """
    has = np.ones(len(pack), bool)
    for field in registry().modality(name).reads:
        if f"has_{field}" in pack:
            has &= pack[f"has_{field}"]
    return has
