"""Sets of defaults: the paper's recipe, ours, and what a machine without a GPU gets through in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER: Mapping[str, Any] = {}
"""The paper is what :class:`cvhpe.config.schema.Config` has as defaults."""

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
"""Ours for joints alone: a residual network that rises fast and comes to rest, averaged weights, and poses seen
from where other hands were seen (:mod:`cvhpe.augmentation.pose_swap`). ``docs/reproduction.md`` says the worth of
each part."""

BEST_IMAGES: Mapping[str, Any] = {"schedule": "cosine", "warmup_fraction": 0.02, "ema_decay": 0.999}
"""Ours where there are pictures: the paper's networks and losses with a learning rate that comes to rest and averaged
weights. Poses cannot swap there, because no picture shows them."""

RECIPES = ("paper", "best")
JOINT_FIELDS = frozenset({"joints2d", "joints3d", "K", "crop", "side"})
"""What is known of a hand, without a picture, wherever it is put (:mod:`cvhpe.augmentation.pose_swap`)."""

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
"""A picture run on two CPU cores in minutes: small pictures, the paper's cheapest variant, a fast learning
rate that comes to rest, any turn of the picture, posteriors that begin narrow, and a joint decoder that learns from
the first step. After 384 steps at this rate on 4,000 frames: 46.5 mm held-out median EPE with the residual decoder,
51.9 with the paper's under He's initial weights, and with torch's it never left the mean pose (71.7)."""

IMAGE_MODALITIES = ("rgb", "depth")
