"""What the joint operators share: the palm, the parts of a view, and the twin of their geometry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cvhpe.plugin.contract import View


class Palm(NamedTuple):
    """Which joint a skeleton is rooted in, and where that root goes when it is labelled at the wrist.

    The root joint moves from where it is labelled towards joint ``root_shift_joint`` by the share ``weight``, or
    where that
    is None by ``View.root_shift_weight`` of the view (0.5 turns a wrist into a palm, 0 leaves it).

    root, root_shift_joint: indices of joints; 0 and 9 (middle-finger MCP) in the canonical layout.
    weight: ``[B]`` float32, or None.

    >>> Palm(root=0, root_shift_joint=9)
    Palm(root=0, root_shift_joint=9, weight=None)
    """

    root: int
    root_shift_joint: int
    weight: Tensor | None = None


Parts = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, int, int]


def parts_of(view: View | None, palm: Palm | None) -> Parts:
    """``(angle, scale, shift, flip, palm weight, root, root_shift_joint)`` as the kernels take them."""
    weight = None
    root = root_shift_joint = 0
    if palm is not None:
        root, root_shift_joint = palm.root, palm.root_shift_joint
        weight = palm.weight if palm.weight is not None or view is None else view.root_shift_weight
    if view is None:
        return None, None, None, None, weight, root, root_shift_joint
    return view.angle, view.scale, view.shift, view.flip, weight, root, root_shift_joint


def seen(joints: Tensor, parts: Parts, relative: bool) -> Tensor:
    """The twin of the kernels' geometry: palm shift, then root-relative, then the view. Wide in, wide out."""
    angle, scale, shift, flip, weight, root, root_shift_joint = parts
    if weight is not None:
        way = weight.to(joints.dtype)[:, None]
        moved = joints[:, root] + way * (joints[:, root_shift_joint] - joints[:, root])
        joints = torch.cat([joints[:, :root], moved[:, None], joints[:, root + 1 :]], 1)
    if relative:
        joints = joints - joints[:, root : root + 1]
    if angle is None or scale is None or shift is None or flip is None:
        return joints
    plane = joints.shape[2] == 2
    cosine, sine = angle.to(joints.dtype).cos(), angle.to(joints.dtype).sin()
    if plane:
        cosine, sine = cosine * scale, sine * scale
    x = torch.where(flip[:, None], -joints[..., 0], joints[..., 0])
    y = joints[..., 1]
    cosine, sine = cosine[:, None], sine[:, None]
    x, y = cosine * x - sine * y, sine * x + cosine * y
    if plane:
        return torch.stack([x + shift[:, :1], y + shift[:, 1:]], -1)
    return torch.stack([x, y, joints[..., 2]], -1)


def wide(t: Tensor) -> torch.dtype:
    """The dtype that the kernels compute in."""
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def check_joints(op: str, name: str, joints: Tensor, parts: Parts, relative: bool) -> None:
    """Say which argument does not fit, in the words of the kernels."""
    if joints.dim() != 3 or joints.shape[2] not in (2, 3):
        raise RuntimeError(f"{op}: {name}: shape {list(joints.shape)}, expected [B, J, 2] or [B, J, 3]")
    if not joints.dtype.is_floating_point:
        raise RuntimeError(f"{op}: {name}: dtype is not floating point, expected float32, float64, bfloat16 or float16")
    rows, count = joints.shape[:2]
    angle, scale, shift, flip, weight, root, root_shift_joint = parts
    for field, tensor, shape in (
        ("angle", angle, [rows]),
        ("scale", scale, [rows]),
        ("shift", shift, [rows, 2]),
        ("flip", flip, [rows]),
        ("palm", weight, [rows]),
    ):
        if tensor is None:
            continue
        if list(tensor.shape) != shape:
            raise RuntimeError(f"{op}: {field}: shape {list(tensor.shape)}, expected {shape}")
        dtype = torch.bool if field == "flip" else torch.float32
        if tensor.dtype != dtype:
            raise RuntimeError(f"{op}: {field}: expected {str(dtype).removeprefix('torch.')}")
    if (weight is not None or relative) and not (0 <= root < count and 0 <= root_shift_joint < count):
        raise RuntimeError(f"{op}: palm: joints {root} and {root_shift_joint}, expected two of 0 .. {count - 1}")
