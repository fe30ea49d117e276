"""Which preset a run gets: by its recipe, its modalities and the machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cvhpe.config.presets import BEST, BEST_IMAGES, CPU_IMAGES, IMAGE_MODALITIES, JOINT_FIELDS, PAPER
from cvhpe.config.schema import merge
from cvhpe.plugin.registry import registry


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
    return BEST if joints_alone(modalities) else BEST_IMAGES


def defaults(
    recipe: str, modalities: Sequence[str], device: str, *, named: bool = False, given: Collection[str] = ()
) -> tuple[dict[str, Any], str]:
    """The settings that a recipe and a machine suggest, and a sentence that says which and how to undo it.

    named: the user asked for the recipe by name, and gets it whole, whatever the machine. given: names of settings
    that the user makes, of which the sentence says nothing.
    """
    settings: dict[str, Any] = {"recipe": recipe, **chosen(recipe, modalities)}
    if named or device != "cpu" or not set(modalities) & set(IMAGE_MODALITIES):
        return settings, ""
    flat = {name: value for name, value in CPU_IMAGES.items() if name != "augmentation"}
    flat |= {f"augmentation.{name}": value for name, value in CPU_IMAGES["augmentation"].items()}
    used = ", ".join(f"{name}={value}" for name, value in flat.items() if name not in given)
    note = f"no GPU here, so this run uses {used}; the paper's own settings: --recipe paper"
    return merge(settings, CPU_IMAGES), note
