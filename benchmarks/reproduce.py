"""Run cells of the paper's tables, and of ours, and write what came out into ``docs/reproduction.md``.

    python benchmarks/reproduce.py list
    python benchmarks/reproduce.py run frames-best-v1 frames-paper-v1 --frames rhd_evaluation_a.npz --seeds 0,1,2
    python benchmarks/reproduce.py run table3-2d-v3 --rhd /data/RHD_published_v2
    python benchmarks/reproduce.py tables
    python benchmarks/reproduce.py add elsewhere/reproduction.json

A cell is one documented command: `cvhpe train`, then `cvhpe evaluate`, and for some `cvhpe calibrate` and
``benchmarks/robustness.py``. Figures are kept in ``benchmarks/reproduction.json``, a record for each cell and seed,
with the CPU time and the machine's share of it; `tables` writes the tables of the page anew, between its markers;
`add` takes in what another copy has measured.
A cell whose data was not given is left alone.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from cells import CELLS, PLACES, Cell
from tables import Results, with_tables

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reproduction.md"
RESULTS = ROOT / "benchmarks" / "reproduction.json"


def load() -> Results:
    """What is kept."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def measure(cell: Cell, place: str, seed: int, work: Path, threads: int) -> dict[str, Any]:
    """Train and evaluate a cell with a seed, and say what came out and what it took."""
    out = str(work / f"{cell.name}-{seed}")
    command = [*cell.train(place, out), "--set", f"seed={seed}"]
    command += ["--set", f"threads={threads}"] if threads else []
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    call([sys.executable, "-m", *command])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took: dict[str, Any] = {"cpu_seconds": round(cpu), "wall_seconds": round(time.monotonic() - begin)}
    scores = json.loads(call([sys.executable, "-m", *cell.evaluate(out)]))
    if cell.robust:
        if cell.calibrated:
            call([sys.executable, "-m", "cvhpe", "calibrate", out])
        took["robust"] = json.loads(call([sys.executable, str(ROOT / "benchmarks" / "robustness.py"), out, "--json"]))
    kept = {name: round(scores[name], 3) for name in ("epe_median_mm", "epe_mean_mm", "auc_20_50")}
    return {**kept, "frames": scores["frames"], **took, "load": round(os.getloadavg()[0], 1), "threads": threads}


def call(command: list[str]) -> str:
    """Standard output of one of our own commands; its words go to our standard error."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        typer.echo(f"{shlex.join(command)}: exit code {done.returncode}", err=True)
        raise typer.Exit(done.returncode)
    return done.stdout


app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)


@app.command("list")
def list_() -> None:
    """Name every cell and its command."""
    for cell in CELLS.values():
        typer.echo(f"{cell.name:<20} {shlex.join(cell.train())}")


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Cells, or beginnings of their names, as frames-best.")],
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0",
    frames: Annotated[Path | None, typer.Option(help="Joints file of RHD frames.")] = None,
    rhd: Annotated[Path | None, typer.Option(help="RHD, as unpacked.")] = None,
    stb: Annotated[Path | None, typer.Option(help="STB, as unpacked.")] = None,
    icvl: Annotated[Path | None, typer.Option(help="ICVL, as unpacked.")] = None,
    work: Annotated[Path, typer.Option(help="Where the run folders go.")] = Path("runs/reproduce"),
    threads: Annotated[int, typer.Option(help="CPU threads; 0: torch's choice.")] = 0,
) -> None:
    """Train and score cells, keep the figures, and write the tables anew."""
    paths = {"frames": frames, "rhd": rhd, "stb": stb, "icvl": icvl}
    found = [cell for cell in CELLS.values() if any(cell.name == n or cell.name.startswith(f"{n}-") for n in names)]
    if not found:
        raise SystemExit(f"no cell is called {' or '.join(names)}; see: python benchmarks/reproduce.py list")
    for cell in found:
        path = paths[cell.data]
        if path is None:
            typer.echo(f"{cell.name}: not run: needs {PLACES[cell.data][1]} (--{cell.data} PATH)")
            continue
        place = f"{PLACES[cell.data][0].split(':')[0]}:{path.resolve()}"
        for seed in seeds.split(","):
            record = measure(cell, place, int(seed), work, threads)
            results = load()
            results.setdefault(cell.name, {})[seed] = record
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            typer.echo(f"{cell.name}, seed {seed}: {record}")
    tables()


@app.command()
def tables() -> None:
    """Write the tables of docs/reproduction.md out of the figures that are kept."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), load()), encoding="utf-8")


@app.command()
def add(files: Annotated[list[Path], typer.Argument(help="reproduction.json of other copies.")]) -> None:
    """Take in what other copies have measured, and write the tables anew; of two records the other one stays."""
    results = load()
    for file in files:
        for name, seeds in json.loads(file.read_text(encoding="utf-8")).items():
            results.setdefault(name, {}).update(seeds)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    tables()


if __name__ == "__main__":
    app()
