"""``cvhpe model``: the networks' parameters, part by part."""

from __future__ import annotations

from typing import Annotated

import typer

from cvhpe.config.lists import comma_list


def model(
    pairs: Annotated[str, typer.Option(help="INPUT:TARGET pairs, as in rgb:joints3d,rgb:rgb.")] = "",
    variant: Annotated[int, typer.Option(help="The paper's variant, 1 to 4, where no pairs are named.")] = 1,
    input: Annotated[str, typer.Option("--input", help="The input modality of the variant.")] = "rgb",
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting, as in --set backbone=resnet50.")] = None,
) -> None:
    """Count the parameters of a model, part by part, and in total.

    Example: cvhpe model --variant 4 --input rgb
    """
    from cvhpe.config.schema import assign, checked
    from cvhpe.models.blocks import parameter_count
    from cvhpe.models.pairs import parse_pairs, sources, targets, variant_pairs
    from cvhpe.runs.run_dir import build_model

    if pairs:
        names = list(dict.fromkeys(part for item in comma_list(pairs) for part in item.split(":") if part))
        chosen = parse_pairs(pairs, names)
    else:
        chosen = variant_pairs(variant, list(dict.fromkeys((input, "joints3d"))))
        names = list(dict.fromkeys((*sources(chosen), *targets(chosen))))
    settings: dict[str, object] = {"modalities": names, "pairs": [str(p) for p in chosen]}
    for setting in set_ or ():
        assign(settings, setting)
    built = build_model(checked(settings, "--set"))
    for kind, parts in (("encoder", built.encoders), ("decoder", built.decoders)):
        for name, part in parts.items():
            typer.echo(f"{name + ' ' + kind:24}{parameter_count(part):>14,}")
    typer.echo(f"pairs: {', '.join(map(str, chosen))}")
    typer.echo(f"total {parameter_count(built):,}")
