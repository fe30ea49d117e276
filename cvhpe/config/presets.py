"""Sets of settings: the recipe ``best``, and what image runs on a CPU get. The paper's settings are the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BEST: Mapping[str, Any] = {
    "joint_network": "lifter",
    "hidden_dim": 384,
    "num_hidden_layers": 4,
    "joint_loss": "l2",
    "batch_size": 128,
    "lr": 2e-3,
    "schedule": "cosine",
    "warmup_fraction": 0.1,
    "ema_decay": 0.998,
    "clip_norm": 1.0,
    "beta": 1e-4,
    "min_steps": 3000,
    "augmentation": {"pose_swap_prob": 0.7},
}
"""The recipe ``best`` for runs of joints alone: a residual network, a cosine schedule, averaged weights and pose swap
augmentation (:mod:`cvhpe.augmentation.pose_swap`). ``docs/reproduction.md`` has the gain of each part."""

BEST_IMAGES: Mapping[str, Any] = {"schedule": "cosine", "warmup_fraction": 0.02, "ema_decay": 0.999}
"""The recipe ``best`` for runs with images: the paper's networks and losses, a cosine schedule and averaged weights.
Pose swap augmentation is off, since an image cannot follow a swapped pose."""

CPU_IMAGES: Mapping[str, Any] = {
    "image_size": 64,
    "variant": 1,
    "synthetic_count": 4000,
    "joint_network": "lifter",
    "hidden_dim": 384,
    "num_hidden_layers": 4,
    "epochs": 24,
    "min_steps": 0,
    "lr": 3e-3,
    "schedule": "cosine",
    "warmup_fraction": 0.05,
    "clip_norm": 5.0,
    "precision": "auto",
    "initial_logvar": -5.0,
    "joint_loss": "l2",
    "crop_factor": 1.15,
    "augmentation": {"rotation_deg": 180.0, "scale": 0.1},
}
"""Image runs without a GPU: small images, the paper's cheapest variant, a high learning rate with a cosine schedule,
rotations by any angle, narrow initial posteriors, and residual joint networks. Minutes on two CPU cores."""

IMAGE_MODALITIES = ("rgb", "depth")
"""Modalities that get :data:`CPU_IMAGES` where there is no GPU."""

JOINT_FIELDS = frozenset({"joints2d", "joints3d", "K", "crop", "side"})
"""Fields that follow a hand when it is posed and placed anew (:mod:`cvhpe.augmentation.pose_swap`)."""
