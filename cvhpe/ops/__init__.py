"""The step's own arithmetic as fused operators; ``docs/kernels.md`` says what each one fuses.

Every operator is a function here, an operator ``torch.ops.cvhpe.*`` below it where the kernels are built, and a
pure-torch twin that computes the same and serves where they are not. :func:`state` says which it is.
"""

from __future__ import annotations

from cvhpe.ops.elbo import Elbo, JointsTerm, Term, elbo
from cvhpe.ops.extension_loader import State
from cvhpe.ops.extension_loader import load as state
from cvhpe.ops.joints_loss import joints_loss
from cvhpe.ops.sample_kl import draw_seed, sample_kl
from cvhpe.ops.view_transform import Palm
from cvhpe.ops.warp_image import warp_image
from cvhpe.ops.warp_joints import warp_joints

__all__ = [
    "Elbo",
    "JointsTerm",
    "Palm",
    "State",
    "Term",
    "draw_seed",
    "elbo",
    "joints_loss",
    "sample_kl",
    "state",
    "warp_image",
    "warp_joints",
]
