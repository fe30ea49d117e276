"""Scoring a model, and the two baselines that any score must stand beside (PAPER metadata, "The metric")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvhpe.augmentation.tta import IDENTITY_VIEW, undo_view
from cvhpe.data.loader import visible_joints
from cvhpe.errors import UserError, nearest
from cvhpe.evaluation.metrics import Summary, summary
from cvhpe.geometry.skeleton import layout as find_layout
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.models.pairs import sources, targets
from cvhpe.models.vae import CrossModalVAE
from cvhpe.ops import Palm, warp_joints
from cvhpe.plugin.contract import Fields, Posterior, View, hand_side
from cvhpe.runs.run_dir import Run


def identity_view(fields: Fields, margin: float) -> View:
    """The view that shows every stored sample as it is, its wrist moved to the palm where it is one."""
    identity = View.identity(len(fields["side"]))
    return View(
        identity.angle, identity.scale, identity.shift, identity.flip, fields["root_shift_weight"].float(), margin
    )


@dataclass(frozen=True)
class Predictions:
    """Joints ``[N, J, 3]`` mm, root-relative: predicted and true; ``visible`` ``[N, J]``; ``ids`` of the samples."""

    predicted: np.ndarray
    truth: np.ndarray
    visible: np.ndarray


def truth_mm(fields: Fields, palm: Palm) -> Tensor:
    """True joints ``[B, J, 3]``, relative to the root, mm."""
    joints = warp_joints(fields["joints3d"], identity_view(fields, 1.0), palm, relative=True)
    return joints * fields["scale_mm"][:, None, None]


def predict(
    model: CrossModalVAE,
    batches: Iterable[Fields],
    source: str | Sequence[str],
    *,
    protocol: str,
    mean_scale_mm: float,
    margin: float,
    palm: Palm,
    how: FusionParams | None = None,
    among: Sequence[str] = (),
    views: Sequence[tuple[float, bool]] = (IDENTITY_VIEW,),
) -> Predictions:
    """``source`` -> 3D joints for every labelled sample that has ``source``, without augmentation.

    The latent is the posterior's mean; of several sources, that of their product, made as ``how`` says
    (:func:`cvhpe.models.fusion.fuse`). Samples that lack one of the inputs ``among`` are left out, too. With S the
    prediction is multiplied by the frame's own bone length, without it by the mean one of the training
    hands; with H the hand side is given. Truth and prediction are both root-relative: the root's error is 0.

    views: angles and flips that every sample is seen under (:func:`cvhpe.augmentation.tta.tta_views`); predicted is the
    mean of
    what they give, turned back.
    """
    names = [source] if isinstance(source, str) else list(source)
    reads = [field for name in (*names, *among) for field in model.modalities[name].reads]
    was_training = model.training
    model.eval()
    predicted, truth, visible = [], [], []
    with torch.inference_mode():
        for fields in batches:
            keep = labelled(fields, reads)
            if not bool(keep.all()):
                fields = {n: t[keep] for n, t in fields.items()}
            if not len(fields["side"]):
                continue
            seen = [encode(model, fields, names, protocol=protocol, margin=margin, turn=view) for view in views]
            latents = [fuse(posteriors, **(how or {})).mu for posteriors in seen]
            found = [model.decode("joints3d", z).float().cpu() for z in latents]
            joints = torch.stack([undo_view(one, *view) for one, view in zip(found, views, strict=True)]).mean(0)
            scale = fields["scale_mm"] if "S" in protocol else torch.full_like(fields["scale_mm"], mean_scale_mm)
            joints = root_relative(joints * scale[:, None, None], palm.root)
            predicted.append(refine_absolute_pose(model, joints, fields, names, margin).numpy())
            truth.append(truth_mm(fields, palm).numpy())
            visible.append(visible_joints(fields).numpy())
    model.train(was_training)
    if not predicted:
        raise UserError(f"nothing to evaluate: no sample has both {' and '.join(names)} and labelled 3D joints")
    return Predictions(np.concatenate(predicted), np.concatenate(truth), np.concatenate(visible))


def encode(
    model: CrossModalVAE,
    fields: Fields,
    names: Iterable[str],
    *,
    protocol: str,
    margin: float,
    turn: tuple[float, bool] = IDENTITY_VIEW,
) -> dict[str, Posterior]:
    """The posteriors ``[B, D]`` of some inputs of the samples in ``fields``: as they are, or mirrored and turned."""
    device = next(model.parameters()).device
    (angle, flip), seen = turn, identity_view(fields, margin)
    side = hand_side(fields["side"] ^ int(flip), known="H" in protocol).to(device)
    seen = replace(seen, angle=torch.full_like(seen.angle, angle), flip=torch.full_like(seen.flip, flip))
    found = {}
    for name in names:
        found[name] = model.encode(name, to_network_input(model, name, fields, seen).to(device), side)
    return found


def to_network_input(model: CrossModalVAE, name: str, fields: Fields, view: View) -> Tensor:
    """``[B, *shape]``: a modality of the samples in ``fields`` as the model's encoder takes it."""
    return model.modalities[name].augment(model.stored(name, fields), view)


def root_relative(joints: Tensor, root: int) -> Tensor:
    """Joints ``[..., J, 3]`` with the root where it is by definition, at 0, whatever the model thought."""
    joints = joints.clone()
    joints[..., root, :] = 0.0
    return joints


def refine_absolute_pose(
    model: CrossModalVAE, joints: Tensor, fields: Fields, names: Iterable[str], margin: float
) -> Tensor:
    """Joints ``[..., B, J, 3]`` mm that were predicted from inputs, after what those say of them beside a posterior."""
    for name in names:
        refine = model.modalities[name].refine
        if refine is not None:
            joints = refine(joints, to_network_input(model, name, fields, identity_view(fields, margin)))
    return joints


def labelled(fields: Fields, reads: Iterable[str]) -> Tensor:
    """``[B]`` bool: the samples that have 3D joints and every field of ``reads``."""
    keep = torch.ones(len(fields["side"]), dtype=torch.bool)
    for name in ("joints3d", *reads):
        if f"has_{name}" in fields:
            keep &= fields[f"has_{name}"].bool()
    return keep


def check_request(run: Run, source: str | None, target: str, protocol: str | None) -> tuple[str, str]:
    """The input modality and protocol of an evaluation, or why the model cannot give it."""
    inputs, outputs = sources(run.model.pairs), targets(run.model.pairs)
    if target not in outputs:
        raise UserError(f"--to {target}: this run decodes no {target}; {nearest(target, outputs)}")
    if source is None:
        source = next((s for s in inputs if s != target), inputs[0])
    if source not in inputs:
        raise UserError(f"--from {source}: this run encodes no {source}; {nearest(source, inputs)}")
    trained = run.config.protocol
    protocol = protocol or trained
    for letter, what in (("S", "bone-scaled joints"), ("H", "the hand side")):
        if letter in protocol and letter not in trained:
            raise UserError(
                f"--protocol {protocol}: this run was trained under {trained}, without {what}; "
                f"train with --set protocol={protocol}"
            )
    return source, protocol


RIGHT = "_right"
"""Ends the name of a baseline that was fitted, and is given, with every left hand mirrored: what H allows."""


def fit_baselines(fields: Fields, palm: Palm) -> dict[str, Tensor]:
    """The mean pose and, where 2D joints are labelled, ridge regression 2D -> 3D, in bones, of training data.

    mean_pose: ``[J, 3]``. regression: ``[2 * J + 1, 3 * J]`` on the crop fractions and a constant. Each twice: of the
    hands as they are, and, its name ending in :data:`RIGHT`, of right hands and mirrored left ones, for a model that
    is told the hand side: a baseline is given what the model is given.
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
    found = {}
    for name, flipped in (("", torch.zeros_like(left)), (RIGHT, left)):
        poses = mirrored(joints, flipped)
        found[f"mean_pose{name}"] = poses.mean(0)
        if points is None:
            continue
        full = points.isfinite().flatten(1).all(1)
        if int(full.sum()) > 10:
            a, b = design(mirrored(points, flipped)[full]), poses[full].flatten(1).double()
            ridge = 1e-4 * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
            found[f"regression{name}"] = torch.linalg.solve(a.T @ a + ridge, a.T @ b).float()
    return found


def design(points: Tensor) -> Tensor:
    """``[B, J, 2]`` -> ``[B, 2 * J + 1]`` float64 with a constant column."""
    flat = points.flatten(1).double()
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=flat.dtype)], 1)


def mirrored(joints: Tensor, where: Tensor) -> Tensor:
    """Joints ``[B, J, k]``, x negated in the samples ``where`` ``[B]``."""
    sign = torch.where(where, -1.0, 1.0)[:, None]
    return torch.cat([joints[..., :1] * sign[..., None], joints[..., 1:]], -1)


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
    """What the baselines score on the very samples that the model is scored on, told the hand side where H tells it."""
    ending = RIGHT if "H" in protocol else ""
    wanted = ["mean_pose"] + ["regression"] * (source == "joints2d")
    rows: dict[str, list[np.ndarray]] = {name: [] for name in wanted if name + ending in baselines}
    truth, visible = [], []
    for fields in batches:
        keep = labelled(fields, reads)
        fields = {n: t[keep] for n, t in fields.items()}
        if not len(fields["side"]):
            continue
        scale = fields["scale_mm"] if "S" in protocol else torch.full_like(fields["scale_mm"], mean_scale_mm)
        left = (fields["side"] == 0) & bool(ending)
        for name in rows:
            fitted = baselines[name + ending]
            if name == "mean_pose":
                joints = fitted.expand(len(scale), -1, -1)
            else:
                points = warp_joints(fields["joints2d"], identity_view(fields, 1.0), palm)
                flat = design(mirrored(points.nan_to_num(), left)) @ fitted.double()
                joints = flat.float().unflatten(1, baselines["mean_pose"].shape)
            rows[name].append((mirrored(joints, left) * scale[:, None, None]).numpy())
        truth.append(truth_mm(fields, palm).numpy())
        visible.append(visible_joints(fields).numpy())
    return {
        name: summary(np.concatenate(parts), np.concatenate(truth), np.concatenate(visible))
        for name, parts in rows.items()
    }


def palm_of(layout: str) -> Palm:
    """Which joints the wrist-to-palm shift of a layout moves, and towards which."""
    return Palm(*find_layout(layout).root_shift)


def as_json(run: Run, result: Summary, *, source: str, target: str, protocol: str) -> dict[str, Any]:
    """What ``cvhpe evaluate --json`` prints of one evaluation."""
    return {
        **result.as_dict(find_layout(run.metadata.layout).joints),
        "protocol": protocol,
        "from": source,
        "to": target,
        "checkpoint": str(run.path),
    }
