"""``cvhpe model``: the number of parameters of each network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def model(
    modalities: Annotated[str, typer.Option(help="Modalities of the run, comma-separated.")] = "",
    pairs: Annotated[str, typer.Option(help="INPUT:TARGET pairs, as in rgb:joints3d,rgb:rgb.")] = "",
    variant: Annotated[int | None, typer.Option(help="The paper's variant, 1 to 4; default: 3.")] = None,
    recipe: Annotated[str, typer.Option(help="Set of defaults: paper or best.")] = "",
    config: Annotated[Path | None, typer.Option(help="Settings from a TOML file.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting, as in --set backbone=resnet50.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "",
) -> None:
    """Count the parameters of each network that cvhpe train builds from the same options.

    Example: cvhpe model --variant 1 --recipe paper
    """
    from cvhpe.models.blocks import parameter_count
    from cvhpe.runs.run_dir import build_model
    from cvhpe.training.resolve import resolve_config

    options = {"modalities": modalities, "pairs": pairs, "variant": variant, "data": None, "device": device}
    settings, note = resolve_config(options, recipe, config, set_ or [])
    if note:
        typer.echo(note, err=True)
    built = build_model(settings)
    for kind, parts in (("encoder", built.encoders), ("decoder", built.decoders)):
        for name, part in parts.items():
            typer.echo(f"{name + ' ' + kind:24}{parameter_count(part):>14,}")
    typer.echo(f"pairs: {', '.join(settings.pairs)}")
    typer.echo(f"total {parameter_count(built):,}")
