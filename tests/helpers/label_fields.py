"""Label fields of packed samples, made from synthetic hands."""

from __future__ import annotations

import numpy as np
import torch

from cvhpe.synthetic import poses


def fields(n=400, seed=0, palm=0.5):
    hands = poses(n, seed)
    xyz = torch.tensor(np.asarray(hands["joints3d_mm"]), dtype=torch.float32)
    uv = torch.tensor(np.asarray(hands["joints2d_px"]), dtype=torch.float32)
    scale = (xyz[:, 10] - xyz[:, 9]).norm(dim=1)
    centre = (uv.amax(1) + uv.amin(1)) / 2
    size = 1.25 * (uv.amax(1) - uv.amin(1)).amax(1)
    return {
        "joints3d": (xyz - xyz[:, :1]) / scale[:, None, None],
        "joints2d": (uv - centre[:, None]) / size[:, None, None],
        "scale_mm": scale,
        "side": torch.tensor(1 - np.asarray(hands["is_left"], dtype=np.int64)),
        "root_shift_weight": torch.full((n,), palm),
        "visible": torch.ones(n, 21, dtype=torch.bool),
        "has_joints3d": torch.ones(n, dtype=torch.bool),
        "has_joints2d": torch.ones(n, dtype=torch.bool),
        "xyz": xyz,
    }
