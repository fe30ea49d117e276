"""How much a prediction hangs on how the hand was held before the camera.

A hand that is turned in the picture plane or mirrored is the same hand, turned or mirrored. A run that was trained on
turned and mirrored hands should say so; how far its predictions for such views are from each other, undone, is an
error that needs no label to be seen. It tells hard hands from easy ones better than the posterior does, whose own width
training fixes by what the decoder can use and not by what the encoder knows: on hands unlike the training's, a
posterior is as narrow as on any other.

So a hand's samples may be given the typical spread of its views (:class:`cvhpe.fusion.Width`, ``turns``), times a
factor that held-out hands tell. What is left to the posterior is which joints of a hand are the unsure ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cvhpe.errors import UserError
from cvhpe.evaluate import palm_of, ready, rooted, still
from cvhpe.fusion import How, fuse, typical_spread
from cvhpe.modality import Posterior, hand_side
from cvhpe.run import Run


@dataclass(frozen=True)
class Seen:
    """Hands turned by ``angle`` radians after being mirrored where ``flip`` is set: a posterior ``[B, D]`` an input."""

    angle: float
    flip: bool
    posteriors: Mapping[str, Posterior]


def joints_mm(run: Run, z: Tensor, scale: Tensor) -> Tensor:
    """3D joints ``[..., J, 3]`` mm of latents ``[..., D]``, with bone lengths ``scale`` that broadcast to ``[...]``."""
    flat = run.model.decode("joints3d", z.reshape(-1, z.shape[-1])).float().cpu()
    return rooted(flat.unflatten(0, z.shape[:-1]) * scale[..., None, None], palm_of(run.facts.layout).root)


def turned(run: Run, turns: int) -> list[tuple[float, bool]]:
    """Angles and flips to look at hands under: ``turns`` angles out of those of the training, mirrored as well.

    All round the circle where training turned hands all round, evenly from one end of its range to the other where it
    turned them less; mirrored only where training did. :class:`UserError` where that leaves one view alone.
    """
    drawn = run.config.augmentation
    reach = math.radians(drawn.rotation_deg)
    if drawn.rotation_deg >= 180:
        angles = [2 * math.pi * k / turns for k in range(turns)]
    else:
        angles = [reach * (2 * k / (turns - 1) - 1) for k in range(turns)] if reach and turns > 1 else [0.0]
    found = [(angle, flip) for angle in angles for flip in ((False, True) if drawn.flip else (False,))]
    if len(found) < 2:
        raise UserError("this run was trained on hands as they stand: no turned one can tell how sure it is")
    return found


def look_again(run: Run, fields: Mapping[str, Tensor], names: Sequence[str], margin: float, turns: int) -> list[Seen]:
    """The inputs ``names`` of the hands in ``fields`` under every view of :func:`turned`, encoded."""
    n, seen = len(fields["side"]), []
    device = next(run.model.parameters()).device
    for angle, flip in turned(run, turns):
        view = replace(still(fields, margin), angle=torch.full((n,), angle), flip=torch.full((n,), flip))
        side = hand_side(fields["side"] ^ int(flip), known=run.knows_side).to(device)
        posteriors = {
            name: run.model.encode(name, ready(run.model, name, fields, view).to(device), side) for name in names
        }
        seen.append(Seen(angle, flip, posteriors))
    return seen


def doubt(run: Run, seen: Sequence[Seen], names: Sequence[str], how: How, scale: Tensor) -> Tensor:
    """``[B]`` mm: how far the predictions of all views, undone, typically are from their mean.

    how: as several inputs are fused. scale: ``[B]`` mm, what predictions in bones are multiplied by.
    """
    undone = []
    for one in seen:
        posterior = fuse({name: one.posteriors[name] for name in names}, **how)
        undone.append(back(joints_mm(run, posterior.mu, scale), one.angle, one.flip))
    joints = torch.stack(undone)
    return typical_spread(joints - joints.mean(0))


def back(joints: Tensor, angle: float, flip: bool) -> Tensor:
    """Joints ``[..., 3]`` as they were before they were mirrored, where ``flip`` is set, and turned by ``angle``.

    >>> back(torch.tensor([0.0, 1.0, 5.0]), math.pi / 2, True).round(decimals=3)
    tensor([-1.,  0.,  5.])
    """
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = joints.unbind(-1)
    x, y = cos * x + sin * y, cos * y - sin * x
    return torch.stack([-x if flip else x, y, z], -1)
