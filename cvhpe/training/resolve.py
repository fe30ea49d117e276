"""From the command line's options to one resolved configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvhpe.config.lists import comma_list
from cvhpe.config.presets import RECIPES
from cvhpe.config.schema import Config, assign, checked, merge, read_toml
from cvhpe.errors import UserError, nearest
from cvhpe.models.pairs import parse_pairs, variant_pairs
from cvhpe.plugin.registry import registry
from cvhpe.runs.recipes import defaults, usual
from cvhpe.runs.run_dir import check_plugins
from cvhpe.runs.serialization import read_card
from cvhpe.training.checkpoints import CheckpointManager
from cvhpe.training.device import pick_device


def resolved(given: Mapping[str, Any], recipe: str, toml: Path | None, sets: Sequence[str]) -> tuple[Config, str]:
    """The configuration of a new run, and a sentence on what was chosen for this machine.

    Later wins: defaults, recipe, machine, ``--config``, ``--set``, options of their own name.
    """
    asked: dict[str, Any] = read_toml(toml) if toml else {}
    for setting in sets:
        assign(asked, setting)
    if given["modalities"]:
        asked["modalities"] = comma_list(given["modalities"])
    for name in ("variant", "data", "device"):
        if given[name]:
            asked[name] = given[name]
    recipe = recipe or asked.get("recipe", "")
    if recipe and recipe not in RECIPES:
        raise UserError(f"--recipe {recipe}: {nearest(recipe, RECIPES)}")
    first = checked(asked)
    modalities = list(dict.fromkeys(first.modalities))
    for name in modalities:
        registry().modality(name)
    named = bool(recipe)
    recipe = recipe or usual(modalities)
    own = {*asked, *(f"augmentation.{name}" for name in asked.get("augmentation", {}))}
    suggested, note = defaults(recipe, modalities, pick_device(first.device).type, named=named, given=own)
    settings = merge(suggested, asked) | {"modalities": modalities, "recipe": recipe}
    config = checked(settings)
    if given["pairs"]:
        chosen = parse_pairs(given["pairs"], modalities)
    elif config.pairs:
        chosen = parse_pairs(",".join(config.pairs), modalities)
    else:
        chosen = variant_pairs(config.variant, modalities)
    unused = [m for m in modalities if not any(m in pair for pair in chosen)]
    if unused:
        raise UserError(
            f"--modalities lists {', '.join(unused)}, which no pair uses; add one to --pairs or leave it out"
        )
    return checked({**settings, "pairs": [str(p) for p in chosen]}), note


def _ask_for_its_plugins(out: Path) -> None:
    """Name the package that a resumed run lacks; later on its modality would only be an unknown name."""
    for state in CheckpointManager(out, keep=1).paths()[-1:]:
        try:
            card = read_card(state)
        except UserError:
            return  # a damaged state is told of when an older one is taken instead
        check_plugins(state, card)


def resumed(out: Path | None, given: Mapping[str, Any], toml: Path | None, sets: Sequence[str]) -> tuple[Config, Path]:
    """The configuration that a run folder was started with; a resumed run cannot change it."""
    if out is None:
        raise UserError("--resume: say which run with --out")
    if toml or sets or any(given.values()):
        raise UserError("--resume goes on with the run's own settings; leave out the others, or start a new --out")
    path = out / "config.toml"
    if not path.is_file():
        raise UserError(f"{out}: nothing to resume, there is no config.toml")
    _ask_for_its_plugins(out)
    return checked(read_toml(path), where=str(path)), out
