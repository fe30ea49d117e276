"""What the joint operators share: the palm, the tensors of a view, and the reference implementation of a view."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cvhpe.plugin.contract import View


class Palm(NamedTuple):
    """The joint that a skeleton is rooted in, and the joint that this root is shifted towards.

    ``View.root_shift_weight`` says how far: 0.5 moves a labelled wrist to the palm, 0 leaves it.

    Attributes:
        root: Index of the root joint; 0 in the canonical layout.
        root_shift_joint: Index of the joint that it moves towards; 9 (middle-finger MCP) in the canonical layout.

    >>> Palm(root=0, root_shift_joint=9)
    Palm(root=0, root_shift_joint=9)
    """

    root: int
    root_shift_joint: int


ViewTensors = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, int, int]


def view_tensors(view: View | None, palm: Palm | None) -> ViewTensors:
    """A view and a palm as the kernels take them.

    Args:
        view: ``B`` views, or None.
        palm: Root and root shift joint, or None.

    Returns:
        ``(angle, scale, shift, flip, root_shift_weight, root, root_shift_joint)``; tensors are None where the view or
        the palm is.
    """
    root, root_shift_joint = (0, 0) if palm is None else palm
    if view is None:
        return None, None, None, None, None, root, root_shift_joint
    weight = None if palm is None else view.root_shift_weight
    return view.angle, view.scale, view.shift, view.flip, weight, root, root_shift_joint


def transform_joints_reference(joints: Tensor, tensors: ViewTensors, relative: bool) -> Tensor:
    """Reference implementation of the kernels' geometry: root shift, root-relative, view.

    Args:
        joints: ``[B, J, 2]`` or ``[B, J, 3]``, float32 or float64.
        tensors: What :func:`view_tensors` returns.
        relative: Subtract the shifted root.

    Returns:
        The transformed joints, of the same shape and dtype.
    """
    angle, scale, shift, flip, weight, root, root_shift_joint = tensors
    if weight is not None:
        share = weight.to(joints.dtype)[:, None]
        shifted = joints[:, root] + share * (joints[:, root_shift_joint] - joints[:, root])
        joints = torch.cat([joints[:, :root], shifted[:, None], joints[:, root + 1 :]], 1)
    if relative:
        joints = joints - joints[:, root : root + 1]
    if angle is None or scale is None or shift is None or flip is None:
        return joints
    planar = joints.shape[2] == 2
    cosine, sine = angle.to(joints.dtype).cos(), angle.to(joints.dtype).sin()
    if planar:
        cosine, sine = cosine * scale, sine * scale
    x = torch.where(flip[:, None], -joints[..., 0], joints[..., 0])
    y = joints[..., 1]
    cosine, sine = cosine[:, None], sine[:, None]
    x, y = cosine * x - sine * y, sine * x + cosine * y
    if planar:
        return torch.stack([x + shift[:, :1], y + shift[:, 1:]], -1)
    return torch.stack([x, y, joints[..., 2]], -1)


def compute_dtype(t: Tensor) -> torch.dtype:
    """The dtype that an operator computes in: float64 for float64, else float32."""
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def check_joints(op: str, name: str, joints: Tensor, tensors: ViewTensors, relative: bool) -> None:
    """Check the arguments of a joint operator, with the messages of the kernels.

    Args:
        op: Name of the operator.
        name: Name of the argument ``joints``.
        joints: ``[B, J, 2]`` or ``[B, J, 3]``, floating point.
        tensors: What :func:`view_tensors` returns.
        relative: Whether the root is subtracted.

    Raises:
        RuntimeError: An argument does not fit; the message names it.
    """
    if joints.dim() != 3 or joints.shape[2] not in (2, 3):
        raise RuntimeError(f"{op}: {name}: shape {list(joints.shape)}, expected [B, J, 2] or [B, J, 3]")
    if not joints.dtype.is_floating_point:
        raise RuntimeError(f"{op}: {name}: dtype is not floating point, expected float32, bfloat16 or float16")
    rows, count = joints.shape[:2]
    angle, scale, shift, flip, weight, root, root_shift_joint = tensors
    for field, tensor, shape in (
        ("angle", angle, [rows]),
        ("scale", scale, [rows]),
        ("shift", shift, [rows, 2]),
        ("flip", flip, [rows]),
        ("root_shift_weight", weight, [rows]),
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
