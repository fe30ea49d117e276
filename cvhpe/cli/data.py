"""``cvhpe data``: list, synth, prepare, verify and show data sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cvhpe.config.lists import comma_list

if TYPE_CHECKING:
    from cvhpe.io.progress import StageProgressCallback
    from cvhpe.plugin.sample import DatasetSpec

app = typer.Typer(
    help="List, render, pack, verify and show data sets.\n\nExample: cvhpe data list", no_args_is_help=True
)

Source = Annotated[str, typer.Argument(metavar="NAME[:PATH]", help="A data set and its path.")]
Splits = Annotated[list[str] | None, typer.Option("--split", help="A split; repeat the option for more than one.")]

_MARKS = {"ok": "green", "note": "dim", "warn": "yellow", "fatal": "bold red"}


@app.command("list")
def list_() -> None:
    """List the data sets that can be read, those of plugins included, and their fields.

    Example: cvhpe data list
    """
    from cvhpe.cli.console import print_table
    from cvhpe.plugin.registry import registry

    rows = []
    for spec in registry().datasets.values():
        counts = ", ".join(f"{split} {count:,}" for split, count in spec.published.items())
        what = [spec.about, f"fields: {', '.join(spec.fields)}", *([f"published: {counts}"] if counts else [])]
        labels = f"{spec.layout}, {spec.root}" if spec.layout else "given by the file"
        rows.append([spec.name, labels, "\n".join(what)])
    print_table("Data sets, as in --data NAME:PATH", ["name", "layout, root", "description"], rows, words=True)


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="Folder to write, in RHD's on-disk layout.")],
    count: Annotated[int, typer.Option(min=1, help="Number of frames; one in ten is in the evaluation split.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
) -> None:
    """Render synthetic hands: RGB images, depth images, masks and annotations.

    Example: cvhpe data synth --out hands --count 2000 --seed 1
    """
    from cvhpe import synthetic

    with _progress() as progress:
        synthetic.generate(out, count=count, seed=seed, progress=lambda d, t: progress("rendering", d, t))
    typer.echo(f"{out}: {count} frames; train on them with --data rhd:{out}")


@app.command()
def prepare(
    source: Source,
    split: Splits = None,
    image_size: Annotated[int, typer.Option(help="Side of the image crops, px.")] = 256,
    fields: Annotated[str, typer.Option(help="Fields to pack, comma-separated; default: all.")] = "",
    limit: Annotated[int | None, typer.Option(help="Pack only the first samples, this many.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
) -> None:
    """Pack a data set once into memory-mapped hand crops, as training would.

    Example: cvhpe data prepare rhd:RHD_published_v2 --image-size 128
    """
    from cvhpe.data.packing.prepare import prepare as pack
    from cvhpe.data.source import parse_source

    spec, path = parse_source(source)
    wanted = comma_list(fields) or list(spec.fields)
    _known(wanted, spec.fields, "--fields")
    with _progress() as progress:
        for name in _splits(split, spec):
            packed = pack(
                spec,
                path,
                name,
                image_size=image_size,
                fields=wanted,
                limit=limit,
                workers=workers,
                progress=lambda d, t, name=name: progress(f"{spec.name} {name}", d, t),  # type: ignore[misc]
            )
            typer.echo(f"{name}: {len(packed):,} samples in {packed.path}")
            if packed.note:
                typer.echo(packed.note, err=True)


@app.command()
def verify(
    source: Source,
    split: Splits = None,
    decode: Annotated[int, typer.Option(min=0, help="Images to decode in each split.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list of rows.")] = False,
) -> None:
    """Check a data set: counts, files, labels, units, sides. Exit code 2 if a fault would spoil a training.

    Example: cvhpe data verify stb:/data/STB
    """
    import json
    from dataclasses import asdict

    from rich.text import Text

    from cvhpe.cli.console import print_table
    from cvhpe.data.source import parse_source
    from cvhpe.data.verify.checks import is_fatal
    from cvhpe.data.verify.checks import verify as check

    spec, path = parse_source(source)
    asked = _splits(split, spec) if split else None
    with _progress() as progress:
        path = _made(spec, path, progress)
        rows = check(spec, path, asked, decode=decode, progress=progress)
    if as_json:
        typer.echo(json.dumps([asdict(r) for r in rows]))
    else:
        cells = [(r.split, r.check, r.found, r.expected, Text(r.verdict, _MARKS[r.verdict])) for r in rows]
        print_table(source, ["split", "check", "found", "expected", ""], cells, words=True)
    if is_fatal(rows):
        worst = [r for r in rows if r.verdict == "fatal"]
        faults = "1 fault" if len(worst) == 1 else f"{len(worst)} faults"
        typer.echo(f"error: {source}: {faults} that would spoil a training; {worst[0].found}", err=True)
        raise typer.Exit(2)


@app.command()
def show(
    source: Source,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("contact_sheet.png"),
    split: Annotated[str, typer.Option(help="Split to show; default: the first that exists.")] = "",
    count: Annotated[int, typer.Option(min=1, help="Samples on the sheet.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the choice of samples.")] = 0,
) -> None:
    """Write a contact sheet: image crops of hands with their annotated skeletons.

    Example: cvhpe data show freihand:/data/FreiHAND --count 24
    """
    from cvhpe.data.reader import SplitAbsent
    from cvhpe.data.source import parse_source
    from cvhpe.viz.contact_sheet import save_contact_sheet

    spec, path = parse_source(source)
    splits = _splits([split] if split else None, spec)
    with _progress() as progress:
        path = _made(spec, path, progress)
    for name in splits:
        try:
            dataset = spec.open(path, name)
        except SplitAbsent:
            if name == splits[-1]:
                raise
            continue
        ids = save_contact_sheet(dataset, out, count=count, seed=seed)
        typer.echo(f"{out}: {len(ids)} of {len(dataset):,} samples of {spec.name} {name}")
        return


def _made(spec: DatasetSpec, path: Path | None, progress: StageProgressCallback) -> Path | None:
    """The path of the data; a data set that is generated or downloaded is so first."""
    if spec.locate is None:
        return path
    return spec.locate(path, lambda done, total: progress(f"making {spec.name}", done, total))


def _splits(asked: list[str] | None, spec: DatasetSpec) -> list[str]:
    if asked is None:
        return [s for s in spec.splits if s != "all"]
    _known(asked, spec.splits, "--split")
    return asked


def _known(words: list[str], known: tuple[str, ...], option: str) -> None:
    from cvhpe.errors import UserError, nearest

    for word in words:
        if word not in known:
            raise UserError(f"{option} {word}: {nearest(word, known)}")


@contextmanager
def _progress() -> Iterator[StageProgressCallback]:
    """A progress callback that prints to stderr."""
    from cvhpe.cli.console import Console

    with Console() as console:
        yield console.preparing
