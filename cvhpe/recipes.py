"""Sets of defaults: the paper's recipe, ours, and what a machine without a GPU gets through in minutes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cvhpe.config import merge
from cvhpe.registry import registry

PAPER: Mapping[str, Any] = {}
"""The paper is what :class:`cvhpe.config.Config` has as defaults."""

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
from where other hands were seen (:mod:`cvhpe.swap`). ``docs/reproduction.md`` says what each part is worth."""

BEST_PICTURES: Mapping[str, Any] = {"schedule": "cosine", "warmup": 0.02, "ema": 0.999}
"""Ours where there are pictures: the paper's networks and losses with a learning rate that comes to rest and averaged
weights. Poses cannot swap there, because no picture shows them."""

RECIPES = ("paper", "best")
JOINT_FIELDS = frozenset({"joints2d", "joints3d", "K", "crop", "side"})
"""What is known of a hand, without a picture, wherever it is put (:mod:`cvhpe.swap`)."""

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


def joints_alone(modalities: Sequence[str]) -> bool:
    """Whether all that a run looks at is made of 2D and 3D joints."""
    return all(JOINT_FIELDS.issuperset(registry().modality(name).reads) for name in modalities)


def usual(modalities: Sequence[str]) -> str:
    """The recipe of a run that names none: ours where it was measured to be better, else the paper's."""
    return "best" if joints_alone(modalities) else "paper"


def chosen(recipe: str, modalities: Sequence[str]) -> Mapping[str, Any]:
    """What a recipe sets for modalities."""
    if recipe == "paper":
        return PAPER
    return BEST if joints_alone(modalities) else BEST_PICTURES


def defaults(
    recipe: str, modalities: Sequence[str], device: str, *, named: bool = False, given: Collection[str] = ()
) -> tuple[dict[str, Any], str]:
    """The settings that a recipe and a machine suggest, and a sentence that says which and how to undo it.

    named: the user asked for the recipe by name, and gets it whole, whatever the machine. given: names of settings
    that the user makes, of which the sentence says nothing.
    """
    settings: dict[str, Any] = {"recipe": recipe, **chosen(recipe, modalities)}
    if named or device != "cpu" or not set(modalities) & set(PICTURES):
        return settings, ""
    flat = {name: value for name, value in CPU_PICTURES.items() if name != "augmentation"}
    flat |= {f"augmentation.{name}": value for name, value in CPU_PICTURES["augmentation"].items()}
    used = ", ".join(f"{name}={value}" for name, value in flat.items() if name not in given)
    note = f"no GPU here, so this run uses {used}; the paper's own settings: --recipe paper"
    return merge(settings, CPU_PICTURES), note
