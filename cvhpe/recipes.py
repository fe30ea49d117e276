"""Sets of defaults: the paper's recipe, ours, and what a machine without a GPU gets through in minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cvhpe.config import merge

PAPER: Mapping[str, Any] = {}
"""The paper is what :class:`cvhpe.config.Config` has as defaults."""

RECIPES: Mapping[str, Mapping[str, Any]] = {"paper": PAPER}

CPU_PICTURES: Mapping[str, Any] = {
    "image_size": 64,
    "synthetic_count": 4000,
    "epochs": 20,
    "least_steps": 0,
    "lr": 1e-3,
    "schedule": "cosine",
    "precision": "auto",
}
"""A picture run on two CPU cores in minutes: small pictures, a faster learning rate that falls to zero."""

PICTURES = ("rgb", "depth")


def defaults(recipe: str, modalities: Sequence[str], device: str) -> tuple[dict[str, Any], str]:
    """The settings that a recipe and a machine suggest, and a sentence that says which and how to undo it."""
    settings: dict[str, Any] = {"recipe": recipe, **RECIPES[recipe]}
    if device != "cpu" or not set(modalities) & set(PICTURES):
        return settings, ""
    chosen = ", ".join(f"{name}={value}" for name, value in CPU_PICTURES.items())
    undo = "--set image_size=256 --set synthetic_count=20000 --set epochs=100 --set lr=1e-4 --set schedule=constant"
    note = f"no GPU here, so this run uses {chosen}; the paper's settings: {undo} --set precision=float32"
    return merge(settings, CPU_PICTURES), note
