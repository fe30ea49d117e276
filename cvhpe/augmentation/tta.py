"""The same hand held otherwise before the camera: turned in the picture plane, and mirrored."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvhpe.config.schema import Augmentation
from cvhpe.errors import UserError

AS_IT_IS = (0.0, False)
"""The view that changes nothing."""


def tta_views(drawn: Augmentation, turns: int) -> list[tuple[float, bool]]:
    """Angles, radians, and flips to look at hands under: ``turns`` angles out of the training's, mirrored as well.

    All round the circle where training turned hands all round, evenly from one end of its range to the other where it
    turned them less; mirrored only where training did. :class:`UserError` where that leaves one view alone.
    """
    reach = math.radians(drawn.rotation_deg)
    if drawn.rotation_deg >= 180:
        angles = [2 * math.pi * k / turns for k in range(turns)]
    else:
        angles = [reach * (2 * k / (turns - 1) - 1) for k in range(turns)] if reach and turns > 1 else [0.0]
    found = [(angle, flip) for angle in angles for flip in ((False, True) if drawn.flip else (False,))]
    if len(found) < 2:
        raise UserError("this run was trained on hands as they stand: no turned one can tell how sure it is")
    return found


def undo_view(joints: Tensor, angle: float, flip: bool) -> Tensor:
    """Joints ``[..., 3]`` as they were before they were mirrored, where ``flip`` is set, and turned by ``angle``.

    >>> undo_view(torch.tensor([0.0, 1.0, 5.0]), math.pi / 2, True).round(decimals=3)
    tensor([-1.,  0.,  5.])
    """
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = joints.unbind(-1)
    x, y = cos * x + sin * y, cos * y - sin * x
    return torch.stack([-x if flip else x, y, z], -1)
