"""Sets of defaults: the paper's recipe, ours, and what a machine without a GPU gets through in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER: Mapping[str, Any] = {}
"""The paper is what :class:`cvhpe.config.schema.Config` has as defaults."""

BEST: Mapping[str, Any] = {
    "network": "lifter",
    "width": 384,
    "depth": 4,
    "joint_loss": "distance",
    "batch_size": 128,
    "lr": 2e-3,
    "schedule": "cosine",
    "warmup": 0.1,
    "ema": 0.998,
    "clip_norm": 1.0,
    "beta": 1e-4,
    "least_steps": 3000,
    "augmentation": {"swap": 0.7},
}
"""Ours for joints alone: a residual network that rises fast and comes to rest, averaged weights, and poses seen
from where other hands were seen (:mod:`cvhpe.augmentation.pose_swap`). ``docs/reproduction.md`` says what each part is worth."""

BEST_PICTURES: Mapping[str, Any] = {"schedule": "cosine", "warmup": 0.02, "ema": 0.999}
"""Ours where there are pictures: the paper's networks and losses with a learning rate that comes to rest and averaged
weights. Poses cannot swap there, because no picture shows them."""

RECIPES = ("paper", "best")
JOINT_FIELDS = frozenset({"joints2d", "joints3d", "K", "crop", "side"})
"""What is known of a hand, without a picture, wherever it is put (:mod:`cvhpe.augmentation.pose_swap`)."""

CPU_PICTURES: Mapping[str, Any] = {
    "image_size": 64,
    "variant": 1,
    "synthetic_count": 4000,
    "network": "lifter",
    "width": 384,
    "depth": 4,
    "epochs": 24,
    "least_steps": 0,
    "lr": 3e-3,
    "schedule": "cosine",
    "warmup": 0.05,
    "clip_norm": 5.0,
    "precision": "auto",
    "initial_logvar": -5.0,
    "joint_loss": "distance",
    "crop_factor": 1.15,
    "augmentation": {"rotation_deg": 180.0, "scale": 0.1},
}
"""A picture run on two CPU cores in minutes: small pictures, the paper's cheapest variant, a fast learning
rate that comes to rest, any turn of the picture, posteriors that begin narrow, and a joint decoder that learns from
the first step. After 384 steps at this rate on 4,000 frames: 46.5 mm held-out median EPE with the residual decoder,
51.9 with the paper's under He's initial weights, and with torch's it never left the mean pose (71.7)."""

PICTURES = ("rgb", "depth")
