"""FusionParams much a prediction hangs on how the hand was held before the camera.

A hand that is turned in the picture plane or mirrored is the same hand, turned or mirrored. A run that was trained on
turned and mirrored hands should say so; how far its predictions for such views are from each other, undone, is an
error that needs no label to be seen. The posterior's own width training fixes by what the decoder can use and not by
what the encoder knows: on hands unlike the training's, a posterior is as narrow as on any other. Views make the widths
truer on such hands; whether they also rank hands better depends on the hands (``reference/default-model.md``).

So a hand's samples may be given the typical spread of its views (:class:`cvhpe.uncertainty.fusion.SampleScaling`,
``turns``), times a
factor that held-out hands tell. What is left to the posterior is which joints of a hand are the unsure ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvhpe.augmentation.tta import tta_views, undo_view
from cvhpe.evaluation.evaluate import encode, palm_of, root_relative
from cvhpe.models.fusion import FusionParams, fuse
from cvhpe.plugin.contract import Posterior
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.fusion import typical_spread


@dataclass(frozen=True)
class AugmentedPosteriors:
    """Hands turned by ``angle`` radians after being mirrored where ``flip`` is set: a posterior ``[B, D]`` an input."""

    angle: float
    flip: bool
    posteriors: Mapping[str, Posterior]


def joints_mm(run: Run, z: Tensor, scale: Tensor) -> Tensor:
    """3D joints ``[..., J, 3]`` mm of latents ``[..., D]``, with bone lengths ``scale`` that broadcast to ``[...]``."""
    flat = run.model.decode("joints3d", z.reshape(-1, z.shape[-1])).float().cpu()
    return root_relative(flat.unflatten(0, z.shape[:-1]) * scale[..., None, None], palm_of(run.metadata.layout).root)


def encode_tta(
    run: Run, fields: Mapping[str, Tensor], names: Sequence[str], margin: float, turns: int
) -> list[AugmentedPosteriors]:
    """The inputs ``names`` of the hands in ``fields`` under every view of :func:`tta_views`, encoded."""
    protocol = run.config.protocol
    return [
        AugmentedPosteriors(*view, encode(run.model, fields, names, protocol=protocol, margin=margin, view=view))
        for view in tta_views(run.config.augmentation, turns)
    ]


def tta_std(
    run: Run, seen: Sequence[AugmentedPosteriors], names: Sequence[str], how: FusionParams, scale: Tensor
) -> Tensor:
    """``[B]`` mm: how far the predictions of all views, undone, typically are from their mean.

    how: as several inputs are fused. scale: ``[B]`` mm, what predictions in bones are multiplied by.
    """
    undone = []
    for one in seen:
        posterior = fuse({name: one.posteriors[name] for name in names}, **how)
        undone.append(undo_view(joints_mm(run, posterior.mu, scale), one.angle, one.flip))
    joints = torch.stack(undone)
    return typical_spread(joints - joints.mean(0))
