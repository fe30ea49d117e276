"""Two baselines that a model must beat: the mean pose, and ridge regression from 2D to 3D joints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.loader import visible_joints
from cvhpe.evaluation.evaluate import identity_view, labelled, truth_mm
from cvhpe.evaluation.metrics import Summary, summary
from cvhpe.ops import Palm, warp_joints
from cvhpe.plugin.contract import Fields

RIGHT_SUFFIX = "_right"
"""Ends the name of a baseline that was fitted with every left hand flipped, for protocols with H."""
RIDGE = 1e-4
"""Ridge penalty a sample."""
MIN_SAMPLES = 11
"""The regression is left out if fewer samples have all 2D joints."""


def fit_baselines(fields: Fields, palm: Palm) -> dict[str, Tensor]:
    """Fit the baselines to training samples.

    Each is fitted twice: to the hands as they are, and, its name ending in :data:`RIGHT_SUFFIX`, with left hands
    flipped, so that a baseline is given the hand side where the model is.

    Args:
        fields: Samples with ``joints3d`` and, for the regression, ``joints2d``.
        palm: Root joint and the joint it shifts towards.

    Returns:
        ``mean_pose`` ``[J, 3]`` in bones, and ``regression`` ``[2 J + 1, 3 J]`` from crop fractions and a constant.
    """
    keep = labelled(fields, ()) & fields["joints3d"].isfinite().flatten(1).all(1)
    if not bool(keep.any()):
        return {}
    fields = {n: t[keep] for n, t in fields.items()}
    view = identity_view(fields, 1.0)
    joints = warp_joints(fields["joints3d"], view, palm, relative=True)
    points = fields.get("joints2d")
    if points is not None:
        points = warp_joints(points, view, palm)
    left = fields["side"] == 0
    baselines = {}
    for suffix, flip in (("", torch.zeros_like(left)), (RIGHT_SUFFIX, left)):
        poses = flip_x(joints, flip)
        baselines[f"mean_pose{suffix}"] = poses.mean(0)
        if points is None:
            continue
        complete = points.isfinite().flatten(1).all(1)
        if int(complete.sum()) >= MIN_SAMPLES:
            a, b = _design_matrix(flip_x(points, flip)[complete]), poses[complete].flatten(1).double()
            penalty = RIDGE * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
            baselines[f"regression{suffix}"] = torch.linalg.solve(a.T @ a + penalty, a.T @ b).float()
    return baselines


def baseline_summaries(
    baselines: Mapping[str, Tensor],
    batches: Iterable[Fields],
    source: str,
    reads: Iterable[str],
    *,
    protocol: str,
    mean_scale_mm: float,
    palm: Palm,
) -> dict[str, Summary]:
    """Score the baselines on the samples that the model is scored on.

    Args:
        baselines: Of :func:`fit_baselines`.
        batches: Fields of samples.
        source: The model's input; the regression needs ``joints2d``.
        reads: Fields that a sample must have to count.
        protocol: As in :func:`cvhpe.evaluation.evaluate.predict`.
        mean_scale_mm: Mean bone length of the training hands, mm.
        palm: Root joint and the joint it shifts towards.

    Returns:
        Baseline -> summary.
    """
    suffix = RIGHT_SUFFIX if "H" in protocol else ""
    wanted = ["mean_pose"] + ["regression"] * (source == "joints2d")
    predicted: dict[str, list[np.ndarray]] = {name: [] for name in wanted if name + suffix in baselines}
    truth, visible = [], []
    for fields in batches:
        keep = labelled(fields, reads)
        fields = {n: t[keep] for n, t in fields.items()}
        if not len(fields["side"]):
            continue
        scale = fields["scale_mm"] if "S" in protocol else torch.full_like(fields["scale_mm"], mean_scale_mm)
        left = (fields["side"] == 0) & bool(suffix)
        for name in predicted:
            fitted = baselines[name + suffix]
            if name == "mean_pose":
                joints = fitted.expand(len(scale), -1, -1)
            else:
                points = warp_joints(fields["joints2d"], identity_view(fields, 1.0), palm)
                flat = _design_matrix(flip_x(points.nan_to_num(), left)) @ fitted.double()
                joints = flat.float().unflatten(1, baselines["mean_pose"].shape)
            predicted[name].append((flip_x(joints, left) * scale[:, None, None]).numpy())
        truth.append(truth_mm(fields, palm).numpy())
        visible.append(visible_joints(fields).numpy())
    return {
        name: summary(np.concatenate(joints), np.concatenate(truth), np.concatenate(visible))
        for name, joints in predicted.items()
    }


def flip_x(joints: Tensor, flip: Tensor) -> Tensor:
    """Negate x in some samples.

    Args:
        joints: ``[B, J, k]``.
        flip: ``[B]`` bool.

    Returns:
        ``[B, J, k]``.

    Example:
        >>> flip_x(torch.ones(2, 1, 3), torch.tensor([True, False])).flatten(1)
        tensor([[-1.,  1.,  1.],
                [ 1.,  1.,  1.]])
    """
    sign = torch.where(flip, -1.0, 1.0)[:, None]
    return torch.cat([joints[..., :1] * sign[..., None], joints[..., 1:]], -1)


def _design_matrix(points: Tensor) -> Tensor:
    """``[B, J, 2]`` -> ``[B, 2 J + 1]`` float64 with a constant column."""
    flat = points.flatten(1).double()
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=flat.dtype)], 1)
