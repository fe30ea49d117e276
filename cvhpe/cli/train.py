"""``cvhpe train``: from data to a run folder with a trained, evaluated model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from cvhpe.config.schema import Config
    from cvhpe.data.splits import DataSplits
    from cvhpe.errors import UserError
    from cvhpe.training.callbacks import Reporter
    from cvhpe.training.distributed import ProcessGroup

PEER_EXIT_SECONDS = 2.0
"""How long a process waits after a peer has failed, so that the exit code is the peer's."""


def train(
    modalities: Annotated[str, typer.Option(help="Modalities of the model, comma-separated.")] = "",
    pairs: Annotated[str, typer.Option(help="INPUT:TARGET pairs, as in rgb:joints3d,rgb:rgb.")] = "",
    variant: Annotated[int | None, typer.Option(help="The paper's variant, 1 to 4; default: 3.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME:PATH; repeat the option for more than one data set.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Set of defaults: paper or best.")] = "",
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/<modalities>.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a TOML file.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as in --set lr=1e-3; a run's config.toml lists all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "",
    nproc: Annotated[
        int, typer.Option(min=1, help="Processes on this machine, one per GPU; use torchrun for several machines.")
    ] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint of the run folder.")
    ] = False,
    logger: Annotated[str, typer.Option("--logger", help="tensorboard: also write OUT/tensorboard.")] = "",
    profile: Annotated[
        bool, typer.Option("--profile", help="Write a profile of the training steps to OUT/profile.")
    ] = False,
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
    from cvhpe.training.datamodule import open_data
    from cvhpe.training.device import pick_device
    from cvhpe.training.diagnostics import out_of_memory
    from cvhpe.training.distributed import ProcessGroup, is_peer_failure, launch, process_group, without_nproc
    from cvhpe.training.resolve import resolve_config, resume_config
    from cvhpe.training.signals import Stopped, handle_signals, raise_stopped
    from cvhpe.training.trainer import train as train_run
    from cvhpe.viz.tensorboard import add_logger

    options = {"modalities": modalities, "pairs": pairs, "variant": variant, "data": data, "device": device}
    if resume:
        settings, path = resume_config(out, options | {"recipe": recipe}, config, set_ or [])
        note = f"resuming {path}"
    else:
        settings, note = resolve_config(options, recipe, config, set_ or [])
        path = out or Path("runs") / "-".join(settings.modalities)
    group = ProcessGroup.from_env(os.environ)
    if nproc > 1 and group.size == 1:
        raise typer.Exit(launch(nproc, without_nproc(sys.argv[1:])))
    with ExitStack() as stack:
        console = stack.enter_context(Console(silent=not group.is_rank0))
        if note:
            console.note(note)
        try:
            packs = open_data(settings, console.preparing)
            for line in packs.notes:
                console.note(line)
            stack.enter_context(process_group(group, pick_device(settings.device, group.local_rank)))
            report = stack.enter_context(add_logger(console.reporter(), logger, path, settings, packs.validation))
            train_run(settings, packs, path, resume=resume, report=report, group=group, profile=profile)
            with handle_signals(raise_stopped):
                group.run_on_rank0(lambda: calibrate_and_show(path, settings, packs, report))
        except Stopped as stopped:
            console.note(f"{stopped}; {path} holds a usable model; go on with: cvhpe train --resume --out {path}")
            raise typer.Exit(stopped.exit_code) from None
        except UserError as error:
            exit_with_error(group, error)
        except (MemoryError, RuntimeError) as error:
            if out_of_memory(error):
                saved = f"; {path} can go on where there is more (--resume)" if (path / "config.toml").exists() else ""
                advice = "a smaller batch_size or grad_accum_steps=2 takes less"
                exit_with_error(group, UserError(f"out of memory: {advice}{saved}"))
            if not is_peer_failure(group, error):
                raise
            console.note("another process of this run has ended; go on with --resume")
            time.sleep(PEER_EXIT_SECONDS)
            raise typer.Exit(1) from None


def calibrate_and_show(path: Path, settings: Config, data: DataSplits, report: Reporter) -> None:
    """Calibrate a trained run, and print its scores on data that it was not trained on."""
    from cvhpe.cli.scores import show_results
    from cvhpe.io.locking import run_lock
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.calibration import calibrate_trained_run

    with run_lock(path):
        calibrate_trained_run(load_run(path), settings, data, report)
    show_results(path, data.test or data.validation)


def exit_with_error(group: ProcessGroup, error: UserError) -> NoReturn:
    """End with the one line of an error: rank 0 prints it, or another rank if only its machine has it."""
    from cvhpe.training.distributed import print_local_error

    if group.is_rank0:
        raise error
    print_local_error(group, error)
    raise typer.Exit(2)
