"""From the command line's options to the configuration of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvhpe.config.lists import comma_list
from cvhpe.config.presets import BEST, BEST_IMAGES, CPU_IMAGES, IMAGE_MODALITIES, JOINT_FIELDS
from cvhpe.config.resolve import assign, merge, read_toml
from cvhpe.config.schema import RECIPES, Config, checked
from cvhpe.errors import UserError, nearest
from cvhpe.models.pairs import parse_pairs, variant_pairs
from cvhpe.plugin.registry import registry
from cvhpe.runs.run_dir import check_plugins
from cvhpe.runs.serialization import read_metadata
from cvhpe.training.checkpoints import CheckpointManager
from cvhpe.training.device import pick_device


def joints_only(modalities: Sequence[str]) -> bool:
    """Whether all modalities are made of 2D and 3D joints, as rays are."""
    return all(JOINT_FIELDS.issuperset(registry().modality(name).reads) for name in modalities)


def default_settings(
    recipe: str, modalities: Sequence[str], device: str, given: Collection[str] = ()
) -> tuple[dict[str, Any], str]:
    """The settings of a recipe, or of a machine if no recipe is named.

    Args:
        recipe: ``paper`` or ``best``; empty for ``best`` where it is known to be better, else ``paper`` with the
            settings that this machine can train in minutes.
        modalities: of the run.
        device: ``cpu`` or ``cuda``.
        given: settings that the user makes, which the note leaves out.

    Returns:
        The settings, and a note for the user on what was chosen for this machine.
    """
    is_named = bool(recipe)
    recipe = recipe or ("best" if joints_only(modalities) else "paper")
    settings: dict[str, Any] = {"recipe": recipe}
    if recipe == "best":
        settings |= BEST if joints_only(modalities) else BEST_IMAGES
    if is_named or device != "cpu" or not set(modalities) & set(IMAGE_MODALITIES):
        return settings, ""
    chosen = {name: value for name, value in CPU_IMAGES.items() if name != "augmentation"}
    chosen |= {f"augmentation.{name}": value for name, value in CPU_IMAGES["augmentation"].items()}
    listed = ", ".join(f"{name}={value}" for name, value in chosen.items() if name not in given)
    note = f"no GPU here, so this run uses {listed}; the paper's own settings: --recipe paper"
    return merge(settings, CPU_IMAGES), note


def resolve_config(
    options: Mapping[str, Any], recipe: str = "", toml: Path | None = None, sets: Sequence[str] = ()
) -> tuple[Config, str]:
    """The configuration of a new run. Later sources win: defaults, recipe, machine, TOML, ``--set``, options.

    Args:
        options: ``modalities``, ``pairs``, ``variant``, ``data`` and ``device`` as given on the command line; empty
            or None if not given.
        recipe: of ``--recipe``.
        toml: file of ``--config``.
        sets: assignments of ``--set``.

    Returns:
        The configuration, and a note for the user on what was chosen for this machine.

    Raises:
        UserError: If a setting, a modality or a pair does not fit.
    """
    given: dict[str, Any] = read_toml(toml) if toml else {}
    for assignment in sets:
        assign(given, assignment)
    if options["modalities"]:
        given["modalities"] = comma_list(options["modalities"])
    given |= {name: options[name] for name in ("variant", "data", "device") if options[name]}
    recipe = recipe or given.get("recipe", "")
    if recipe and recipe not in RECIPES:
        raise UserError(f"--recipe {recipe}: {nearest(str(recipe), RECIPES)}")
    basic = checked(given)
    modalities = list(dict.fromkeys(basic.modalities))
    if not modalities:
        raise UserError("--modalities: name at least one, as in rgb,joints3d")
    for name in modalities:
        registry().modality(name)
    names = {*given, *(f"augmentation.{name}" for name in given.get("augmentation", {}))}
    defaults, note = default_settings(recipe, modalities, pick_device(basic.device).type, names)
    settings = merge(defaults, given) | {"modalities": modalities, "recipe": defaults["recipe"]}
    config = checked(settings)
    if options["pairs"] or config.pairs:
        pairs = parse_pairs(options["pairs"] or ",".join(config.pairs), modalities)
    else:
        pairs = variant_pairs(config.variant, modalities)
    unused = [m for m in modalities if not any(m in pair for pair in pairs)]
    if unused:
        raise UserError(
            f"--modalities lists {', '.join(unused)}, which no pair uses; add one to --pairs or leave it out"
        )
    return checked({**settings, "pairs": [str(p) for p in pairs]}), note


def resume_config(
    out: Path | None, options: Mapping[str, Any], toml: Path | None, sets: Sequence[str]
) -> tuple[Config, Path]:
    """The configuration that a run was started with, which a resumed run cannot change.

    Args:
        out: the run folder.
        options: command-line options, none of which may be given.
        toml: file of ``--config``, which may not be given.
        sets: assignments of ``--set``, which may not be given.

    Returns:
        The configuration and the run folder.

    Raises:
        UserError: If there is no run to resume, or settings are given.
    """
    if out is None:
        raise UserError("--resume: say which run with --out")
    if toml or sets or any(options.values()):
        raise UserError("--resume goes on with the run's own settings; leave out the others, or start a new --out")
    path = out / "config.toml"
    if not path.is_file():
        raise UserError(f"{out}: nothing to resume, there is no config.toml")
    _check_plugins_of_checkpoint(out)
    return checked(read_toml(path), where=str(path)), out


def _check_plugins_of_checkpoint(out: Path) -> None:
    """Name a package that a resumed run lacks; later on its modality would only be an unknown name."""
    for path in CheckpointManager(out, keep=1).paths()[-1:]:
        try:
            metadata = read_metadata(path)
        except UserError:
            return  # a damaged checkpoint is reported when an older one is restored instead
        check_plugins(path, metadata)
