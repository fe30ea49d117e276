"""``cvhpe plugins``: list installed plugins, write a new one, check one with the conformance kit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer(
    help="List, write and check plugins: modalities and data sets.\n\nExample: cvhpe plugins list", no_args_is_help=True
)


_COLOURS = {"ok": "green", "passed": "green", "broken": "red", "failed": "red"}
Traceback = Annotated[bool, typer.Option("--traceback", help="Print the traceback of every error.")]


def _coloured(state: str) -> Text:
    from rich.text import Text

    return Text(state, _COLOURS.get(state, "yellow"))


@app.command("list")
def list_plugins(traceback: Traceback = False) -> None:
    """List the installed plugins: state, modalities and data sets, and why one is broken.

    Example: cvhpe plugins list
    """
    from cvhpe.cli.console import print_line, print_table
    from cvhpe.plugin.registry import registry, unknown_in_disable_list

    plugins = registry().plugins
    rows = [(p.name, p.package, _coloured(p.state), ", ".join(p.modalities), ", ".join(p.datasets)) for p in plugins]
    print_table("Plugins", ["plugin", "package", "state", "modalities", "data sets"], rows, words=True)
    for p in plugins:
        if p.state != "ok":
            print_line(f"{p.name} of {p.package}: {p.error}")
        if traceback and p.traceback:
            print_line(p.traceback)
    for name in unknown_in_disable_list(plugins):
        print_line(f"CVHPE_DISABLE_PLUGINS names {name!r}, which is not installed")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the modality, lower_snake_case.")],
    out: Annotated[Path | None, typer.Option(help="Folder to make; default: ./cvhpe-NAME.")] = None,
) -> None:
    """Write a complete plugin package that can be installed, tested and trained at once.

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
    path: Annotated[Path | None, typer.Option(help="Path of the data, for a data set.")] = None,
    only: Annotated[str, typer.Option(help="Run only the checks whose name contains this.")] = "",
    traceback: Traceback = False,
) -> None:
    """Run the conformance kit on one modality or data set; exit code 2 if a check fails.

    Example: cvhpe plugins check rgb

    Example: cvhpe plugins check stb --path data/stb
    """
    from cvhpe.cli.console import Console, print_line, print_table
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
    selected = [c for c in checks if only in c.name]
    if not selected:
        raise UserError(f"--only {only!r}: no such check; have {', '.join(c.name for c in checks)}")
    outcomes = []
    with Console() as console:
        for c in selected:
            with console.rich.status(c.name):
                outcomes.append(c.outcome())
    print_table(name, ["check", "result"], [(o.check, _coloured(o.result)) for o in outcomes], words=True)
    for outcome in outcomes:
        if outcome.detail:
            print_line(f"{outcome.check}: {outcome.detail}")
        if traceback and outcome.traceback:
            print_line(outcome.traceback)
    failed = sum(o.result == "failed" for o in outcomes)
    if failed:
        raise UserError(f"{name}: {failed} of {len(selected)} checks failed; the lines above say how to fix them")
