"""``cvhpe train``: from data to a run folder with a trained, evaluated model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from cvhpe.errors import UserError
    from cvhpe.training.distributed import ProcessGroup

LET_IT_SPEAK = 2.0
"""Seconds that a process waits before it follows one that ended, so that the exit code is the other's."""


def train(
    modalities: Annotated[str, typer.Option(help="What a hand is seen as, comma-separated.")] = "",
    pairs: Annotated[str, typer.Option(help="INPUT:TARGET pairs, as in rgb:joints3d,rgb:rgb.")] = "",
    variant: Annotated[int | None, typer.Option(help="The paper's variant, 1 to 4; 3 by default.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; give it again to train on more.")] = None,
    recipe: Annotated[str, typer.Option(help="Set of defaults: paper or best.")] = "",
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/<modalities>.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a TOML file.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as in --set lr=1e-3; a run's config.toml lists all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "",
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine, one a GPU; torchrun starts more.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the run folder.")] = False,
    logger: Annotated[str, typer.Option("--logger", help="tensorboard: write OUT/tensorboard as well.")] = "",
    profile: Annotated[bool, typer.Option("--profile", help="Write where steps' time goes to OUT/profile.")] = False,
) -> None:
    """Train a cross-modal model and evaluate it on held-out data.

    Example: cvhpe train --modalities rgb,joints3d

    Example: cvhpe train --modalities joints2d,joints3d --data joints:hands.npz --out runs/lift
    """
    import os
    import sys
    import time
    from contextlib import ExitStack

    from cvhpe.cli.console import Console
    from cvhpe.errors import UserError
    from cvhpe.training.callbacks import Stopped
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.device import pick_device
    from cvhpe.training.diagnostics import out_of_memory, stop_at_once, stopping_on_signals
    from cvhpe.training.distributed import is_peer_failure, launch, process_group, without_procs, world_of
    from cvhpe.training.resolve import resolved, resumed
    from cvhpe.training.trainer import train as run
    from cvhpe.viz.tensorboard import add_logger

    given = {"modalities": modalities, "pairs": pairs, "variant": variant, "data": data, "device": device}
    if resume:
        settings, path = resumed(out, given | {"recipe": recipe}, config, set_ or [])
        note = f"resuming {path}"
    else:
        settings, note = resolved(given, recipe, config, set_ or [])
        path = out or Path("runs") / "-".join(settings.modalities)
    world = world_of(os.environ)
    if nproc > 1 and world.size == 1:
        raise typer.Exit(launch(nproc, without_procs(sys.argv[1:])))
    with ExitStack() as held:
        console = held.enter_context(Console(silent=not world.is_rank0))
        if note:
            console.note(note)
        try:
            packs = open_data(settings, console.preparing)
            for line in packs.notes:
                console.note(line)
            held.enter_context(process_group(world, pick_device(settings.device, world.local)))
            report = held.enter_context(add_logger(console.reporter(), logger, path, settings, packs.validation))
            run(settings, packs, path, resume=resume, report=report, world=world, profile=profile)
            if world.is_rank0:
                with stopping_on_signals(stop_at_once):
                    from cvhpe.cli.scores import show_results

                    show_results(path, packs.test or packs.validation)
        except Stopped as stopped:
            console.note(f"{stopped}; {path} holds a usable model; go on with: cvhpe train --resume --out {path}")
            raise typer.Exit(stopped.exit_code) from None
        except UserError as error:
            refuse(world, error)
        except (MemoryError, RuntimeError) as error:
            if out_of_memory(error):
                saved = f"; {path} can go on where there is more (--resume)" if (path / "config.toml").exists() else ""
                refuse(world, UserError(f"out of memory: a smaller batch_size or grad_accum_steps=2 takes less{saved}"))
            if not isinstance(error, RuntimeError) or not is_peer_failure(world, error):
                raise
            console.note("another process of this run has ended; go on with --resume")
            time.sleep(LET_IT_SPEAK)
            raise typer.Exit(1) from None


def refuse(world: ProcessGroup, error: UserError) -> NoReturn:
    """End with the one line of ``error``, that of the first of all processes; the others say theirs elsewhere."""
    from cvhpe.training.distributed import say_elsewhere

    if world.is_rank0:
        raise error
    say_elsewhere(world, error)
    raise typer.Exit(2)
