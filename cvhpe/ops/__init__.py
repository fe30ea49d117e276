"""Fused operators of the training step; ``docs/kernels.md`` describes what each one fuses.

Each operator is a function here, an operator ``torch.ops.cvhpe.*`` where the kernels are built, and a reference
implementation in PyTorch that serves where they are not. :func:`kernel_state` tells which of the two is in use.
"""

from __future__ import annotations

from cvhpe.ops.elbo import ElboResult, ElboTerm, JointsTerm, elbo
from cvhpe.ops.extension_loader import KernelState, kernel_state
from cvhpe.ops.joints_loss import joints_loss
from cvhpe.ops.sample_kl import sample_kl
from cvhpe.ops.view_transform import Palm
from cvhpe.ops.warp_image import warp_image
from cvhpe.ops.warp_joints import warp_joints

__all__ = [
    "ElboResult",
    "ElboTerm",
    "JointsTerm",
    "KernelState",
    "Palm",
    "elbo",
    "joints_loss",
    "kernel_state",
    "sample_kl",
    "warp_image",
    "warp_joints",
]
