"""TTA disagreement: how far the predictions of augmented views of a hand differ.

The posterior variance is set by the trade-off between reconstruction and KL, not by what the encoder is unsure of. A
run that was trained with rotation and flip should predict the same hand for every such view. How far its predictions
differ is an estimate of the error that needs no label. :class:`cvhpe.uncertainty.sample_scaling.SampleScaling` can
rescale a hand's samples to it; the ratio between joints stays the posterior's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvhpe.augmentation.tta import tta_views, undo_view
from cvhpe.evaluation.evaluate import encode, root_relative
from cvhpe.geometry.skeleton import layout
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.plugin.contract import Posterior
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.sample_scaling import geometric_mean_rms


@dataclass(frozen=True)
class AugmentedPosteriors:
    """Posteriors of hands under one TTA view.

    Attributes:
        angle: Rotation in radians, after the flip.
        flip: Whether x is negated.
        posteriors: Input -> ``[B, D]``.
    """

    angle: float
    flip: bool
    posteriors: Mapping[str, Posterior]


def decode_joints_mm(run: Run, z: Tensor, scale: Tensor) -> Tensor:
    """Decode 3D joints.

    Args:
        run: The run.
        z: Latents ``[..., D]``.
        scale: mm a unit of the decoder, broadcast to ``[...]``.

    Returns:
        ``[..., J, 3]`` mm, root-relative, on the CPU.
    """
    flat = run.model.decode("joints3d", z.reshape(-1, z.shape[-1])).float().cpu()
    return root_relative(flat.unflatten(0, z.shape[:-1]) * scale[..., None, None], layout(run.metadata.layout).root)


def encode_tta(
    run: Run, fields: Mapping[str, Tensor], names: Sequence[str], margin: float, num_angles: int
) -> list[AugmentedPosteriors]:
    """Encode hands under every view of :func:`cvhpe.augmentation.tta.tta_views`.

    Args:
        run: The run.
        fields: ``[B, ...]`` each.
        names: Input modalities.
        margin: Side of the stored images in units of the crop.
        num_angles: Number of angles.

    Returns:
        One entry a view.
    """
    protocol = run.config.protocol
    return [
        AugmentedPosteriors(*view, encode(run.model, fields, names, protocol=protocol, margin=margin, view=view))
        for view in tta_views(run.config.augmentation, num_angles)
    ]


def tta_std(
    run: Run, views: Sequence[AugmentedPosteriors], names: Sequence[str], fusion: FusionParams, scale: Tensor
) -> Tensor:
    """Geometric-mean RMS deviation of the views' predictions, each undone, from their mean.

    Args:
        run: The run.
        views: Of :func:`encode_tta`.
        names: Input modalities, fused.
        fusion: Parameters of the fusion.
        scale: ``[B]`` mm a unit of the decoder.

    Returns:
        ``[B]`` mm.
    """
    undone = []
    for view in views:
        posterior = fuse({name: view.posteriors[name] for name in names}, **fusion)
        undone.append(undo_view(decode_joints_mm(run, posterior.mu, scale), view.angle, view.flip))
    joints = torch.stack(undone)
    return geometric_mean_rms(joints - joints.mean(0))
