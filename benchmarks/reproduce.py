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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reproduction.md"
RESULTS = ROOT / "benchmarks" / "reproduction.json"
PLACES = {
    "rhd": ("rhd:RHD_published_v2", "RHD's training set"),
    "stb": ("stb:STB", "STB's training sequences"),
    "icvl": ("icvl:ICVL", "ICVL's training set"),
    "frames": ("joints:rhd_evaluation_a.npz", "the joints file of RHD frames"),
}
"""Kind of data -> how the documented command names it, and what is missing where it is not at hand."""


@dataclass(frozen=True)
class Cell:
    """One number of a table: how it is trained and scored, and what the paper says.

    data: a key of :data:`PLACES`. options: of `cvhpe train`. source: what is lifted to 3D. paper: mm, None where the
    paper has no such cell. figure: which of the scores the table is made of. robust: whether noise and coverage are
    measured, too; calibrated: after `cvhpe calibrate`. teacher: the cell whose run of the same seed teaches it.
    turns: views of each hand that its prediction is the mean of.
    """

    name: str
    table: str
    row: str
    column: str
    data: str
    options: tuple[str, ...]
    source: str
    paper: float | None = None
    figure: str = "epe_median_mm"
    robust: bool = False
    calibrated: bool = False
    teacher: str = ""
    turns: int = 0

    def train(self, place: str = "", out: str = "") -> list[str]:
        """The training command, for data at ``place``."""
        data = place or PLACES[self.data][0]
        out = out or f"runs/{self.name}"
        taught = settings(f"teacher={out.replace(self.name, self.teacher)}") if self.teacher else ()
        return ["cvhpe", "train", *self.options, *taught, "--data", data, "--out", out]

    def evaluate(self, out: str = "") -> list[str]:
        turned = ["--turns", str(self.turns)] if self.turns else []
        return ["cvhpe", "evaluate", out or f"runs/{self.name}", "--from", self.source, *turned, "--json"]


PAPER_TABLES = {
    "table3": {
        "2d": ("2D->3D RHD", "rhd", "joints2d", (14.68, 15.13, 14.46, 14.83)),
        "rgb": ("RGB->3D RHD", "rhd", "rgb", (16.74, 16.97, 16.96, 17.30)),
        "stb": ("RGB->3D STB", "stb", "rgb", (7.44, 7.39, 7.16, 8.16)),
    },
    "table4": {
        "2d": ("2D->3D RHD", "rhd", "joints2d", (14.46, 14.91, 16.41, 16.92)),
        "rgb": ("RGB->3D RHD", "rhd", "rgb", (16.74, 16.93, 18.99, 19.10)),
        "stb": ("RGB->3D STB", "stb", "rgb", (7.16, 9.11, 8.33, 7.78)),
    },
}
Results = dict[str, dict[str, Any]]
"""Cell -> seed -> what came out."""
PROTOCOLS = ("TSH", "TS", "TH", "T")
BEST_VARIANT = {"2d": 3, "rgb": 1, "stb": 3}
"""Which variant gave the paper's T+S+H number of a column, and so its table 4."""


def cells() -> Iterator[Cell]:
    """Every cell, the paper's first."""
    for key, (column, data, source, numbers) in PAPER_TABLES["table3"].items():
        for variant, number in enumerate(numbers, 1):
            options = of("paper", source, variant)
            yield Cell(
                f"table3-{key}-v{variant}", "table3", f"Variant {variant}", column, data, options, source, number
            )
    for key, (column, data, source, numbers) in PAPER_TABLES["table4"].items():
        for protocol, number in zip(PROTOCOLS, numbers, strict=True):
            options = (*of("paper", source, BEST_VARIANT[key]), "--set", f"protocol={protocol}")
            name = f"table4-{key}-{protocol}"
            yield Cell(name, "table4", "+".join(protocol), column, data, options, source, number)
    for backbone, number in (("resnet18", 8.5), ("resnet50", 8.0)):
        options = (*of("paper", "depth", 1), "--set", f"backbone={backbone}")
        row, column = backbone.replace("resnet", "ResNet-"), "depth->3D ICVL, mean"
        yield Cell(f"depth-{backbone}", "depth", row, column, "icvl", options, "depth", number, "epe_mean_mm")
    for recipe in ("paper", "best"):
        for variant in (1, 2, 3, 4):
            options = of(recipe, "joints2d", variant)
            name, row = f"frames-{recipe}-v{variant}", f"Variant {variant}, T+S+H"
            both = name == "frames-best-v1"
            yield Cell(name, "frames", row, recipe, "frames", options, "joints2d", robust=both, calibrated=both)
        for protocol in PROTOCOLS[1:]:
            options = (*of(recipe, "joints2d", 3), "--set", f"protocol={protocol}")
            name, row = f"frames-{recipe}-{protocol}", f"Variant 3, {'+'.join(protocol)}"
            yield Cell(name, "frames", row, recipe, "frames", options, "joints2d")
    plain = (*of("best", "joints2d", 1), *settings("beta=0", "initial_logvar=-20"))
    yield Cell("regressor", "regressor", "plain regressor", "", "frames", plain, "joints2d")
    yield Cell("rays", "rays", "camera known", "", "frames", of("best", "rays", 1), "rays", robust=True, turns=5)
    for share, (column, options) in product(SHARES, LABELS.items()):
        source = "rays" if column == "rays" else "joints2d"
        taught = f"labels-{share}-rays" if column == "taught" else ""
        some = (*options, *settings(f"labelled={share / 100:g}"), *FEW)
        name = f"labels-{share}-{column}"
        yield Cell(name, "labels", f"{share} %", column, "frames", some, source, teacher=taught)
    yield Cell("labels-100-alone", "labels", "100 %", "alone", "frames", (*LABELS["alone"], *FEW), "joints2d")


SHARES = (5, 10, 25)  # per cent of the training frames that keep their 3D labels


def settings(*sets: str) -> tuple[str, ...]:
    """Options that set settings."""
    return tuple(part for one in sets for part in ("--set", one))


def of(recipe: str, source: str, variant: int) -> tuple[str, ...]:
    """The options that train ``source`` -> 3D with a recipe."""
    return ("--recipe", recipe, "--modalities", f"{source},joints3d", "--variant", str(variant))


FEW = settings("least_steps=1500", "ema=0.996")
LABELS = {
    "alone": of("best", "joints2d", 1),
    "rays": of("best", "rays", 1),
    "taught": of("best", "joints2d", 1),
}
"""Columns: labelled frames alone; the teacher, which knows their cameras; what it teaches, which does not."""
CELLS = {cell.name: cell for cell in cells()}


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


def shown(cell: Cell, results: Results) -> str:
    """What is known of a cell: a figure, or a mean and its spread over seeds, or why there is none."""
    values = list(by_seed(cell.name, results, cell.figure).values())
    if not values:
        return "not run" if cell.data == "frames" else f"not run: needs {PLACES[cell.data][1]}"
    return over_seeds(values)


def over_seeds(values: Sequence[float], form: str = ".2f") -> str:
    """``10.23 (1 seed)``, or ``10.40 (10.23 to 10.61, 3 seeds)``."""
    if not values:
        return "not run"
    if len(values) == 1:
        return f"{values[0]:{form}} (1 seed)"
    return f"{sum(values) / len(values):{form}} ({min(values):{form}} to {max(values):{form}}, {len(values)} seeds)"


def by_seed(name: str, results: Results, figure: str = "epe_median_mm") -> dict[str, float]:
    """A figure of a cell, for each seed that it was run with."""
    return {seed: record[figure] for seed, record in sorted(results.get(name, {}).items())}


def less(name: str, other: str, results: Results) -> list[float]:
    """What a cell has more than another, for each seed that both were run with."""
    a, b = by_seed(name, results), by_seed(other, results)
    return [a[seed] - b[seed] for seed in a if seed in b]


def paper_table(name: str, results: Results) -> str:
    """A table of the paper: for every cell its command, the paper's number and ours."""
    lines = ["| cell | column | command | paper, mm | ours, mm |", "|---|---|---|---|---|"]
    for cell in CELLS.values():
        if cell.table == name:
            ours = shown(cell, results)
            lines.append(f"| {cell.row} | {cell.column} | {commands_of(cell)} | {cell.paper:.2f} | {ours} |")
    return "\n".join(lines)


def frames_table(results: Results) -> str:
    """Both recipes side by side on the frames that are at hand, and their ratio."""
    rows = dict.fromkeys(c.row for c in CELLS.values() if c.table == "frames")
    lines = ["| | `--recipe paper`, mm | `--recipe best`, mm | best / paper |", "|---|---|---|---|"]
    for row in rows:
        pair = {c.column: c for c in CELLS.values() if (c.table, c.row) == ("frames", row)}
        means = {}
        for recipe, cell in pair.items():
            found = [record["epe_median_mm"] for record in results.get(cell.name, {}).values()]
            if found:
                means[recipe] = sum(found) / len(found)
        ratio = f"{100 * means['best'] / means['paper']:.1f} %" if len(means) == 2 else ""
        lines.append(f"| {row} | {shown(pair['paper'], results)} | {shown(pair['best'], results)} | {ratio} |")
    lines += [
        "",
        "| cell and seed | command | median, mm | mean, mm | CPU s | wall s | load |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seeds in sorted(results.items()):
        if name in CELLS and CELLS[name].table == "frames":
            for seed, r in sorted(seeds.items()):
                command = f"`{shlex.join([*CELLS[name].train(), '--set', f'seed={seed}'])}`"
                took = f"{r['cpu_seconds'] or ''} | {r['wall_seconds']}"
                figures = f"{r['epe_median_mm']:.2f} | {r['epe_mean_mm']:.2f} | {took}"
                lines.append(f"| {name}, {seed} | {command} | {figures} | {r['load']} |")
    return "\n".join(lines)


def commands_of(cell: Cell) -> str:
    """How a cell is run, as the page says it."""
    return f"`{shlex.join(cell.train())}`, `{shlex.join(cell.evaluate())}`"


def regressor_table(results: Results) -> str:
    """The VAE beside the same network that neither samples nor pays for its latents."""
    vae, plain = CELLS["frames-best-v1"], CELLS["regressor"]
    lines = ["| | command | median, mm |", "|---|---|---|"]
    lines += [f"| {name} | {commands_of(c)} | {shown(c, results)} |" for name, c in (("VAE", vae), ("plain", plain))]
    costs = over_seeds(less(vae.name, plain.name, results), "+.2f")
    return "\n".join([*lines, f"| the VAE costs, seed by seed | | {costs} |"])


def robust_table(results: Results) -> str:
    """Noise and coverage of a run each, on the validation frames."""
    lines = [
        "| run, seed | clean, mm | 1 px of noise | in the 50 % region | 80 % | 95 % | scale, tails, found on |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seeds in results.items():
        for seed, record in sorted(seeds.items()):
            r = record.get("robust")
            if r is None or name not in CELLS:
                continue
            # On validation frames that found it themselves, coverage says nothing.
            honest = r.get("calibrated_on") == "training"
            inside = " | ".join(f"{100 * share:.1f} %" if honest else "" for share in r["covered"])
            lost = f"{r['noisy_mm']:.2f} ({100 * (r['noisy_mm'] / r['clean_mm'] - 1):+.1f} %)"
            how = f"{r['scale']:.1f}, {r['dof']:g}, {r['calibrated_on']} frames" if honest else ""
            lines.append(f"| {name}, {seed} | {r['clean_mm']:.2f} | {lost} | {inside} | {how} |")
    return "\n".join(lines)


def rays_table(results: Results) -> str:
    """What a known camera is worth, beside the paper's recipe without one."""
    paper, ours = (list(by_seed(name, results).values()) for name in ("frames-paper-v1", "rays"))
    ratio = f"{100 * (sum(ours) / len(ours)) / (sum(paper) / len(paper)):.1f} %" if paper and ours else ""
    row = f"| {commands_of(CELLS['rays'])} | {shown(CELLS['rays'], results)} | {ratio} |"
    return f"| command | median, mm | of the paper recipe without a camera |\n|---|---|---|\n{row}"


def labels_table(results: Results) -> str:
    """What unlabelled frames are worth, for each share of labels."""
    lines = [
        "| 3D labels | alone, mm | with a teacher, mm | gain, seed by seed | the teacher itself, cameras known, mm |",
        "|---|---|---|---|---|",
    ]
    for share in (*SHARES, 100):
        alone, rays, taught = (CELLS.get(f"labels-{share}-{column}") for column in LABELS)
        assert alone is not None
        row = [shown(alone, results)]
        if rays is not None and taught is not None:
            gains = over_seeds(less(alone.name, taught.name, results), "+.2f")
            row += [shown(taught, results), gains, shown(rays, results)]
        lines.append(f"| {share} % | {' | '.join([*row, *[''] * (4 - len(row))])} |")
    at_10 = "; ".join(commands_of(CELLS[f"labels-10-{column}"]) for column in LABELS)
    return "\n".join([*lines, "", f"For 10 %: {at_10}"])


def rewritten(page: str, name: str, table: str) -> str:
    """The page with what stands between the markers of ``name`` replaced."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{PAGE}: lacks the markers {begin} and {end}")
    return f"{head}{begin}\n{table}\n{end}{tail}"


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
    results, page = load(), PAGE.read_text(encoding="utf-8")
    for name in ("table3", "table4", "depth"):
        page = rewritten(page, name, paper_table(name, results))
    for name, table in OURS.items():
        page = rewritten(page, name, table(results))
    PAGE.write_text(page, encoding="utf-8")


OURS: dict[str, Callable[[Results], str]] = {
    "frames": frames_table,
    "regressor": regressor_table,
    "robust": robust_table,
    "rays": rays_table,
    "labels": labels_table,
}
"""Markers of the page -> what makes the table between them."""


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
