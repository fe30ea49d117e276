"""``cvhpe plugins``: what is installed and in which state; a new plugin; the conformance kit from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Modalities and data sets that come from plugins.\n\nExample: cvhpe plugins list", no_args_is_help=True
)


@app.command("list")
def list_plugins(
    trace: Annotated[
        bool, typer.Option("--traceback", help="Show the whole traceback of every broken plugin.")
    ] = False,
) -> None:
    """List every installed plugin, its state, what it supplies, and why it is broken where it is.

    Example: cvhpe plugins list
    """
    from rich.table import Table

    from cvhpe.cli.console import to_stdout
    from cvhpe.plugin.registry import registry, unknown_in_disable_list

    table = Table("plugin", "package", "state", "modalities", "data sets")
    console = to_stdout()
    plugins = registry().plugins
    for p in plugins:
        colour = {"ok": "green", "broken": "red"}.get(p.state, "yellow")
        table.add_row(p.name, p.package, f"[{colour}]{p.state}[/]", ", ".join(p.modalities), ", ".join(p.datasets))
    console.print(table)
    for p in plugins:
        if p.state != "ok":
            console.print(f"{p.name} of {p.package}: {p.error}", markup=False, highlight=False, soft_wrap=True)
        if trace and p.traceback:
            console.print(p.traceback, markup=False, highlight=False, soft_wrap=True)
    for word in unknown_in_disable_list(plugins):
        console.print(f"CVHPE_DISABLE_PLUGINS names {word!r}, which is not installed", markup=False, soft_wrap=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the modality, lower_snake_case.")],
    out: Annotated[Path | None, typer.Option(help="Folder to make; by default ./cvhpe-NAME.")] = None,
) -> None:
    """Write a complete plugin package that installs, passes its own tests and trains at once.

    Example: cvhpe plugins new thermal
    """
    import shlex

    from cvhpe.plugin.scaffold import write_plugin

    folder = write_plugin(name, out)
    # without ./ pip would look for it on the index
    place = shlex.quote(str(folder) if folder.is_absolute() else f"./{folder}")
    typer.echo(f"wrote {folder}; go on with:")
    for step in (
        f"pip install -e {place}",  # -e: what the author changes in the module is what runs next
        f"cvhpe plugins check {name}",
        f"cvhpe train --modalities rgb,{name},joints3d",
    ):
        typer.echo(f"  {step}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A modality or a data set of an installed plugin.")],
    path: Annotated[Path | None, typer.Option(help="Where the data set lies, for a data set.")] = None,
    only: Annotated[str, typer.Option(help="Run the checks whose name contains this.")] = "",
) -> None:
    """Run the conformance kit on one modality or data set; exit code 2 where a check fails.

    Example: cvhpe plugins check rgb

    Example: cvhpe plugins check stb --path data/stb
    """
    from rich.table import Table

    from cvhpe.cli.console import to_stdout
    from cvhpe.errors import UserError, nearest
    from cvhpe.plugin.registry import registry
    from cvhpe.testing import dataset_checks, modality_checks

    known = registry()
    if name in known.datasets and name not in known.modalities:
        checks = dataset_checks(known.dataset(name), path)
    elif path is not None:
        raise UserError(f"--path is for data sets; {name!r} is none: {nearest(name, known.datasets)}")
    else:
        checks = modality_checks(known.modality(name))
    chosen = [c for c in checks if only in c.name]
    if not chosen:
        raise UserError(f"--only {only!r}: no such check; have {', '.join(c.name for c in checks)}")
    console = to_stdout()
    table = Table("check", "result", title=name, title_justify="left")
    outcomes = []
    for c in chosen:
        with console.status(c.name):
            outcome = c.outcome()
        outcomes.append(outcome)
        colour = {"passed": "green", "failed": "red"}.get(outcome.result, "yellow")
        table.add_row(c.name, f"[{colour}]{outcome.result}[/]")
    console.print(table)
    for outcome in outcomes:
        if outcome.detail:
            console.print(f"{outcome.check}: {outcome.detail}", markup=False, highlight=False, soft_wrap=True)
    failed = sum(o.result == "failed" for o in outcomes)
    if failed:
        raise UserError(f"{name}: {failed} of {len(chosen)} checks failed; each line above says how to mend it")
