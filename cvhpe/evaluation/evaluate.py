"""Predict 3D joints of held-out samples: input views, posteriors, decoding and refinement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvhpe.augmentation.tta import IDENTITY_VIEW, undo_view
from cvhpe.data.loader import visible_joints
from cvhpe.errors import UserError, nearest
from cvhpe.evaluation.metrics import Summary
from cvhpe.geometry.skeleton import layout as find_layout
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.models.pairs import sources, targets
from cvhpe.models.vae import CrossModalVAE
from cvhpe.ops import Palm, warp_joints
from cvhpe.plugin.contract import Fields, Posterior, View, hand_side
from cvhpe.runs.run_dir import Run


@dataclass(frozen=True)
class Predictions:
    """Predicted and true joints of ``N`` samples.

    Attributes:
        predicted: ``[N, J, 3]`` mm, root-relative.
        truth: ``[N, J, 3]`` mm, root-relative.
        visible: ``[N, J]`` bool, joints that count in a score.
    """

    predicted: np.ndarray
    truth: np.ndarray
    visible: np.ndarray


def predict(
    model: CrossModalVAE,
    batches: Iterable[Fields],
    source: str | Sequence[str],
    *,
    protocol: str,
    mean_scale_mm: float,
    margin: float,
    palm: Palm,
    fusion: FusionParams | None = None,
    among: Sequence[str] = (),
    views: Sequence[tuple[float, bool]] = (IDENTITY_VIEW,),
) -> Predictions:
    """Predict the 3D joints of all labelled samples that have an input, from posterior means.

    Args:
        model: The model; its training mode is restored.
        batches: Fields of samples.
        source: Input modality, or several to fuse.
        protocol: With S, predictions are multiplied by each sample's own bone length, without it by
            ``mean_scale_mm``. With H, the hand side is given.
        mean_scale_mm: Mean bone length of the training hands, mm.
        margin: Side of the stored images in units of the crop.
        palm: Root joint and the joint it shifts towards.
        fusion: Parameters of :func:`cvhpe.models.fusion.fuse`.
        among: Samples that lack one of these modalities are left out too.
        views: (angle, flip) of each TTA view; the prediction is the mean over the views, each undone.

    Returns:
        The predictions and the truth. Both have the root at 0.

    Raises:
        UserError: No sample has the inputs and 3D joints.
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
            decoded = []
            for view in views:
                posteriors = encode(model, fields, names, protocol=protocol, margin=margin, view=view)
                z = fuse(posteriors, **(fusion or {})).mu
                decoded.append(undo_view(model.decode("joints3d", z).float().cpu(), *view))
            scale = fields["scale_mm"] if "S" in protocol else torch.full_like(fields["scale_mm"], mean_scale_mm)
            joints = root_relative(torch.stack(decoded).mean(0) * scale[:, None, None], palm.root)
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
    view: tuple[float, bool] = IDENTITY_VIEW,
) -> dict[str, Posterior]:
    """Encode input modalities of some samples.

    Args:
        model: The model.
        fields: ``[B, ...]`` each.
        names: Input modalities.
        protocol: With H, the hand side is given.
        margin: Side of the stored images in units of the crop.
        view: (angle in radians, flip) that the samples are shown under.

    Returns:
        Modality -> posterior ``[B, D]``, on the model's device.
    """
    device = next(model.parameters()).device
    angle, flip = view
    shown = identity_view(fields, margin)
    shown = replace(shown, angle=torch.full_like(shown.angle, angle), flip=torch.full_like(shown.flip, flip))
    side = hand_side(fields["side"] ^ int(flip), known="H" in protocol).to(device)
    return {name: model.encode(name, to_network_input(model, name, fields, shown).to(device), side) for name in names}


def identity_view(fields: Fields, margin: float) -> View:
    """The view that shows samples as they are stored, a labelled wrist shifted to the palm.

    Args:
        fields: Samples, with ``root_shift_weight``.
        margin: Side of the stored images in units of the crop.

    Returns:
        ``B`` views.
    """
    weight = fields["root_shift_weight"].float()
    return replace(View.identity(len(fields["side"])), root_shift_weight=weight, margin=margin)


def to_network_input(model: CrossModalVAE, name: str, fields: Fields, view: View) -> Tensor:
    """A modality as the model's encoder takes it.

    Args:
        model: The model.
        name: The modality.
        fields: Samples.
        view: ``B`` views.

    Returns:
        ``[B, *shape]``.
    """
    return model.modalities[name].augment(model.stored(name, fields), view)


def root_relative(joints: Tensor, root: int) -> Tensor:
    """Set the root joint to the origin.

    Args:
        joints: ``[..., J, 3]``, root-relative but for the decoder's error at the root.
        root: Index of the root joint.

    Returns:
        A copy ``[..., J, 3]``.

    Example:
        >>> root_relative(torch.ones(2, 3), 0)
        tensor([[0., 0., 0.],
                [1., 1., 1.]])
    """
    joints = joints.clone()
    joints[..., root, :] = 0.0
    return joints


def refine_absolute_pose(
    model: CrossModalVAE, joints: Tensor, fields: Fields, names: Iterable[str], margin: float
) -> Tensor:
    """Adjust predicted joints to their inputs, by each modality's ``refine``.

    Args:
        model: The model.
        joints: ``[..., B, J, 3]`` mm, root-relative.
        fields: The samples that they were predicted of.
        names: The input modalities.
        margin: Side of the stored images in units of the crop.

    Returns:
        ``[..., B, J, 3]`` mm.
    """
    for name in names:
        refine = model.modalities[name].refine
        if refine is not None:
            joints = refine(joints, to_network_input(model, name, fields, identity_view(fields, margin)))
    return joints


def truth_mm(fields: Fields, palm: Palm) -> Tensor:
    """True joints of some samples.

    Args:
        fields: Samples with ``joints3d`` and ``scale_mm``.
        palm: Root joint and the joint it shifts towards.

    Returns:
        ``[B, J, 3]`` mm, root-relative.
    """
    joints = warp_joints(fields["joints3d"], identity_view(fields, 1.0), palm, relative=True)
    return joints * fields["scale_mm"][:, None, None]


def labelled(fields: Fields, reads: Iterable[str]) -> Tensor:
    """The samples that have 3D joints and some other fields.

    Args:
        fields: Samples, with ``has_<field>`` bool ``[B]`` where some may lack a field.
        reads: The other fields.

    Returns:
        ``[B]`` bool.
    """
    keep = torch.ones(len(fields["side"]), dtype=torch.bool)
    for name in ("joints3d", *reads):
        if f"has_{name}" in fields:
            keep &= fields[f"has_{name}"].bool()
    return keep


def resolve_request(run: Run, source: str | None, target: str, protocol: str | None) -> tuple[str, str]:
    """Fill in the defaults of an evaluation and check it against the run.

    Args:
        run: The run.
        source: Input modality; None takes the first other than the target.
        target: Target modality.
        protocol: None takes the run's own.

    Returns:
        The input modality and the protocol.

    Raises:
        UserError: The run lacks the modality or was trained under a narrower protocol, or the target has no metric.
    """
    inputs, outputs = sources(run.model.pairs), targets(run.model.pairs)
    if target not in outputs:
        raise UserError(f"--to {target}: this run decodes no {target}; {nearest(target, outputs)}")
    if target != "joints3d":
        raise UserError(f"--to {target}: only joints3d has a metric")
    if source is None:
        source = next((s for s in inputs if s != target), inputs[0])
    if source not in inputs:
        raise UserError(f"--from {source}: this run encodes no {source}; {nearest(source, inputs)}")
    trained = run.config.protocol
    protocol = protocol or trained
    for letter, meaning in (("S", "bone-scaled joints"), ("H", "the hand side")):
        if letter in protocol and letter not in trained:
            raise UserError(
                f"--protocol {protocol}: this run was trained under {trained}, without {meaning}; "
                f"train with --set protocol={protocol}"
            )
    return source, protocol


def palm_of(layout: str) -> Palm:
    """The root shift of a layout, as the operators take it."""
    return Palm(*find_layout(layout).root_shift)


def as_json(run: Run, result: Summary, *, source: str, target: str, protocol: str) -> dict[str, Any]:
    """The record that ``cvhpe evaluate --json`` prints of one evaluation.

    Args:
        run: The run.
        result: Its summary.
        source: Input modality, or several joined by commas.
        target: Target modality.
        protocol: The protocol of the evaluation.

    Returns:
        Plain numbers, texts and lists.
    """
    return {
        **result.as_dict(find_layout(run.metadata.layout).joints),
        "protocol": protocol,
        "from": source,
        "to": target,
        "checkpoint": str(run.path),
    }
