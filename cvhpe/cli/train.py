"""``cvhpe train``: from data to a run folder with a trained, evaluated model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    modalities: Annotated[str, typer.Option(help="What a hand is seen as, comma-separated.")] = "",
    pairs: Annotated[str, typer.Option(help="INPUT:TARGET pairs, as in rgb:joints3d,rgb:rgb.")] = "",
    variant: Annotated[int | None, typer.Option(help="The paper's variant, 1 to 4, where no pairs are named; 3 by default.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; give it again to train on more.")] = None,
    recipe: Annotated[str, typer.Option(help="Set of defaults: paper or best.")] = "",
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/<modalities>.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a TOML file.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One setting, as in --set lr=1e-3.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the run folder.")] = False,
) -> None:
    """Train a cross-modal model and evaluate it on held-out data.

    Example: cvhpe train --modalities rgb,joints3d

    Example: cvhpe train --modalities joints2d,joints3d --data joints:hands.npz --out runs/lift
    """
    from cvhpe.cli.console import Console
    from cvhpe.cli.settings import resolved, resumed
    from cvhpe.data.sources import open_data
    from cvhpe.train import Stopped
    from cvhpe.train import train as run

    given = {"modalities": modalities, "pairs": pairs, "variant": variant, "data": data, "device": device}
    if resume:
        settings, path = resumed(out, given, config, set_ or [])
        note = f"resuming {path}"
    else:
        settings, note = resolved(given, recipe, config, set_ or [])
        path = out or Path("runs") / "-".join(settings.modalities)
    with Console() as console:
        if note:
            console.note(note)
        packs = open_data(settings, console.preparing)
        for line in packs.notes:
            console.note(line)
        try:
            run(settings, packs, path, resume=resume, report=console.reporter())
        except Stopped as stopped:
            console.note(f"{stopped}; {path} holds a usable model; go on with: cvhpe train --resume --out {path}")
            raise typer.Exit(130) from None
        console.results(path, packs.test or packs.validation)
