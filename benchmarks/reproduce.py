"""Runs the cells of the paper's tables and of ours, and writes the results into ``docs/reproduction.md``.

    python benchmarks/reproduce.py list
    python benchmarks/reproduce.py run frames-best-v1 frames-paper-v1 --frames rhd_evaluation_a.npz --seeds 0,1,2
    python benchmarks/reproduce.py run table3-2d-v3 --rhd /data/RHD_published_v2
    python benchmarks/reproduce.py tables

A cell is one documented command: ``cvhpe train``, then ``cvhpe evaluate``, and for some ``cvhpe calibrate`` and
``benchmarks/robustness.py``. Results are kept in ``benchmarks/reproduction.json``, a record for each cell and seed;
``tables`` rewrites the tables of the page, between its markers. A cell whose data is not given is skipped.
"""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reproduction.md"
RESULTS = ROOT / "benchmarks" / "reproduction.json"
Results = dict[str, dict[str, dict[str, Any]]]
"""Cell -> seed -> record."""

DATA = {
    "rhd": ("rhd:RHD_published_v2", "RHD's training set"),
    "stb": ("stb:STB", "STB's training sequences"),
    "icvl": ("icvl:ICVL", "ICVL's training set"),
    "frames": ("joints:rhd_evaluation_a.npz", "the joints file of RHD frames"),
}
"""Data -> its name in documented commands, and what is missing where it is not at hand."""
PROTOCOLS = ("TSH", "TS", "TH", "T")
LABEL_SHARES = (5, 10, 25)
"""Percentages of the training frames that keep their 3D labels."""


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    options: of ``cvhpe train``. source: the input that is lifted to 3D. paper: the paper's number, mm. metric: the
    score that the table shows. noise, calibrated: whether ``robustness.py`` runs, and after ``cvhpe calibrate``.
    pseudo: the cell whose run of the same seed gives pseudo-labels. tta: number of angles of test-time augmentation.
    """

    name: str
    table: str
    row: str
    column: str
    data: str
    options: tuple[str, ...]
    source: str
    paper: float | None = None
    metric: str = "epe_median_mm"
    noise: bool = False
    calibrated: bool = False
    pseudo: str = ""
    tta: int = 0

    def train(self, source: str = "", out: str = "") -> list[str]:
        out = out or f"runs/{self.name}"
        pseudo = settings(f"pseudo_label_run={out.replace(self.name, self.pseudo)}") if self.pseudo else ()
        return ["cvhpe", "train", *self.options, *pseudo, "--data", source or DATA[self.data][0], "--out", out]

    def evaluate(self, out: str = "") -> list[str]:
        tta = ["--tta", str(self.tta)] if self.tta else []
        return ["cvhpe", "evaluate", out or f"runs/{self.name}", "--from", self.source, *tta, "--json"]

    def commands(self) -> str:
        return f"`{shlex.join(self.train())}`, `{shlex.join(self.evaluate())}`"


def settings(*pairs: str) -> tuple[str, ...]:
    """``--set`` options."""
    return tuple(part for pair in pairs for part in ("--set", pair))


def lift(recipe: str, source: str, variant: int, *pairs: str) -> tuple[str, ...]:
    """The options that train ``source`` -> 3D with a recipe."""
    modalities = f"{source},joints3d"
    return ("--recipe", recipe, "--modalities", modalities, "--variant", str(variant), *settings(*pairs))


def paper_cells() -> Iterator[Cell]:
    """Tables 3 and 4 of the supplementary, and depth."""
    columns = {"2d": ("2D->3D RHD", "rhd", "joints2d"), "rgb": ("RGB->3D RHD", "rhd", "rgb")}
    columns["stb"] = ("RGB->3D STB", "stb", "rgb")
    variants = {
        "2d": (14.68, 15.13, 14.46, 14.83),
        "rgb": (16.74, 16.97, 16.96, 17.30),
        "stb": (7.44, 7.39, 7.16, 8.16),
    }
    protocols = {
        "2d": (14.46, 14.91, 16.41, 16.92),
        "rgb": (16.74, 16.93, 18.99, 19.10),
        "stb": (7.16, 9.11, 8.33, 7.78),
    }
    best_variant = {"2d": 3, "rgb": 1, "stb": 3}  # that of the paper's T+S+H number, and so of its table 4
    for key, (column, data, source) in columns.items():
        for variant, number in enumerate(variants[key], 1):
            options = lift("paper", source, variant)
            yield Cell(
                f"table3-{key}-v{variant}", "table3", f"Variant {variant}", column, data, options, source, number
            )
    for key, (column, data, source) in columns.items():
        for protocol, number in zip(PROTOCOLS, protocols[key], strict=True):
            options = lift("paper", source, best_variant[key], f"protocol={protocol}")
            name = f"table4-{key}-{protocol}"
            yield Cell(name, "table4", "+".join(protocol), column, data, options, source, number)
    for backbone, number in (("resnet18", 8.5), ("resnet50", 8.0)):
        options = lift("paper", "depth", 1, f"backbone={backbone}")
        row, column = backbone.replace("resnet", "ResNet-"), "depth->3D ICVL, mean"
        yield Cell(f"depth-{backbone}", "depth", row, column, "icvl", options, "depth", number, "epe_mean_mm")


def our_cells() -> Iterator[Cell]:
    """What is measured on the joints file of RHD frames."""

    def cell(name: str, table: str, row: str, column: str, options: tuple[str, ...], **more: Any) -> Cell:
        return Cell(name, table, row, column, "frames", options, **{"source": "joints2d", **more})

    for recipe in ("paper", "best"):
        for variant in (1, 2, 3, 4):
            name, calibrated = f"frames-{recipe}-v{variant}", (recipe, variant) == ("best", 1)
            row, options = f"Variant {variant}, T+S+H", lift(recipe, "joints2d", variant)
            yield cell(name, "frames", row, recipe, options, noise=calibrated, calibrated=calibrated)
        for protocol in PROTOCOLS[1:]:
            options = lift(recipe, "joints2d", 3, f"protocol={protocol}")
            yield cell(f"frames-{recipe}-{protocol}", "frames", f"Variant 3, {'+'.join(protocol)}", recipe, options)
    plain = lift("best", "joints2d", 1, "beta=0", "initial_logvar=-20")
    yield cell("regressor", "regressor", "plain regressor", "", plain)
    yield cell("rays", "rays", "camera known", "", lift("best", "rays", 1), source="rays", noise=True, tta=5)
    few = ("min_steps=1500", "ema_decay=0.996")
    for share in LABEL_SHARES:
        for column, source in (("alone", "joints2d"), ("rays", "rays"), ("pseudo", "joints2d")):
            options = lift("best", source, 1, f"label_fraction={share / 100:g}", *few)
            pseudo = f"labels-{share}-rays" if column == "pseudo" else ""
            yield cell(
                f"labels-{share}-{column}", "labels", f"{share} %", column, options, source=source, pseudo=pseudo
            )
    yield cell("labels-100-alone", "labels", "100 %", "alone", lift("best", "joints2d", 1, *few))


CELLS = {cell.name: cell for cell in (*paper_cells(), *our_cells())}


def by_seed(name: str, results: Results, metric: str = "epe_median_mm") -> dict[str, float]:
    """A score of a cell for each seed that it was run with."""
    return {seed: record[metric] for seed, record in sorted(results.get(name, {}).items())}


def over_seeds(values: Sequence[float], form: str = ".2f") -> str:
    """``10.23 (1 seed)``, or mean and range: ``10.40 (10.23 to 10.61, 3 seeds)``."""
    if not values:
        return "not run"
    if len(values) == 1:
        return f"{values[0]:{form}} (1 seed)"
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}}, {len(values)} seeds)"


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def difference(name: str, other: str, results: Results) -> list[float]:
    """Score of a cell minus that of another, for each seed that both were run with."""
    a, b = by_seed(name, results), by_seed(other, results)
    return [a[seed] - b[seed] for seed in a if seed in b]


def score_text(name: str, results: Results) -> str:
    """The score of a cell, or why there is none."""
    cell = CELLS[name]
    values = list(by_seed(name, results, cell.metric).values())
    return over_seeds(values) if values or cell.data == "frames" else f"not run: needs {DATA[cell.data][1]}"


def markdown(header: str, rows: Iterable[Sequence[str]]) -> str:
    columns = header.count("|") + 1
    return "\n".join([f"| {header} |", "|---" * columns + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def paper_table(table: str, results: Results) -> str:
    cells = [c for c in CELLS.values() if c.table == table]
    rows = [(c.row, c.column, c.commands(), f"{c.paper:.2f}", score_text(c.name, results)) for c in cells]
    return markdown("cell | column | command | paper, mm | ours, mm", rows)


def frames_table(results: Results) -> str:
    cells = [c for c in CELLS.values() if c.table == "frames"]
    rows, details = [], []
    for paper in (c for c in cells if c.column == "paper"):
        pair = [paper.name, paper.name.replace("paper", "best")]
        scores = [list(by_seed(name, results).values()) for name in pair]
        ratio = f"{100 * mean(scores[1]) / mean(scores[0]):.1f} %" if all(scores) else ""
        rows.append((paper.row, *(score_text(name, results) for name in pair), ratio))
    for cell in cells:
        records = [record for _, record in sorted(results.get(cell.name, {}).items())]
        columns = [[r[k] for r in records] for k in ("epe_median_mm", "epe_mean_mm", "cpu_seconds")]
        texts = [", ".join(f"{v:.2f}" for v in values) for values in columns[:2]]
        details.append((f"`{shlex.join(cell.train())}`", *texts, ", ".join(str(s or "?") for s in columns[2])))
    summary = markdown(" | `--recipe paper`, mm | `--recipe best`, mm | best / paper", rows)
    return f"{summary}\n\n{markdown('command, `--set seed=0, 1, ...` | median, mm | mean, mm | CPU s', details)}"


def regressor_table(results: Results) -> str:
    names = {"VAE": "frames-best-v1", "plain": "regressor"}
    rows = [(title, CELLS[name].commands(), score_text(name, results)) for title, name in names.items()]
    cost = over_seeds(difference(*names.values(), results), "+.2f")
    return markdown(" | command | median, mm", [*rows, ("VAE minus plain, seed by seed", "", cost)])


def noise_table(results: Results) -> str:
    rows = []
    for cell in (c for c in CELLS.values() if c.noise):
        for seed, record in sorted(results.get(cell.name, {}).items()):
            r = record["robust"]
            loss = f"{r['noisy_mm']:.2f} ({100 * (r['noisy_mm'] / r['clean_mm'] - 1):+.1f} %)"
            # Coverage on the validation frames that the scaling was fitted on would mean nothing.
            coverage = [f"{100 * share:.1f} %" for share in r["covered"]] if cell.calibrated else [""] * 3
            scaling = f"{r['scale']:.1f}, {r['dof']:g}, {r['calibrated_on']} frames" if cell.calibrated else ""
            rows.append((f"{cell.name}, {seed}", f"{r['clean_mm']:.2f}", loss, *coverage, scaling))
    header = "run, seed | clean, mm | 1 px of noise | in the 50 % region | 80 % | 95 %"
    return markdown(f"{header} | scale, degrees of freedom, fitted on", rows)


def rays_table(results: Results) -> str:
    paper, rays = (list(by_seed(name, results).values()) for name in ("frames-paper-v1", "rays"))
    ratio = f"{100 * mean(rays) / mean(paper):.1f} %" if paper and rays else ""
    row = (CELLS["rays"].commands(), score_text("rays", results), ratio)
    return markdown("command | median, mm | of the paper recipe without a camera", [row])


def labels_table(results: Results) -> str:
    rows = []
    for share in LABEL_SHARES:
        alone, rays, pseudo = (f"labels-{share}-{column}" for column in ("alone", "rays", "pseudo"))
        gain = over_seeds(difference(alone, pseudo, results), "+.2f")
        rows.append((f"{share} %", *(score_text(n, results) for n in (alone, pseudo)), gain, score_text(rays, results)))
    rows.append(("100 %", score_text("labels-100-alone", results), "", "", ""))
    header = "3D labels | alone, mm | with a pseudo-label run, mm | gain, seed by seed"
    commands = "; ".join(CELLS[f"labels-10-{column}"].commands() for column in ("alone", "rays", "pseudo"))
    return f"{markdown(f'{header} | the pseudo-label run itself, cameras known, mm', rows)}\n\nFor 10 %: {commands}"


def with_tables(page: str, results: Results) -> str:
    """The page with every table between its markers rewritten."""
    tables = {name: paper_table(name, results) for name in ("table3", "table4", "depth")}
    tables |= {"frames": frames_table(results), "regressor": regressor_table(results), "robust": noise_table(results)}
    tables |= {"rays": rays_table(results), "labels": labels_table(results)}
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, opened, rest = page.partition(begin)
        _, closed, tail = rest.partition(end)
        if not (opened and closed):
            raise SystemExit(f"docs/reproduction.md: lacks the markers {begin} and {end}")
        page = f"{head}{begin}\n{table}\n{end}{tail}"
    return page


def load() -> Results:
    """The kept results."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def save(results: Results) -> None:
    """Keep results, one line a record."""
    cells = []
    for name, seeds in sorted(results.items()):
        records = [f"  {json.dumps(seed)}: {json.dumps(r, sort_keys=True)}" for seed, r in sorted(seeds.items())]
        cells.append(f" {json.dumps(name)}: {{\n" + ",\n".join(records) + "\n }")
    RESULTS.write_text("{\n" + ",\n".join(cells) + "\n}\n", encoding="utf-8")


def measure(cell: Cell, source: str, seed: int, work: Path, threads: int) -> dict[str, Any]:
    """Train and evaluate a cell with a seed; its scores and the time of the training."""
    out = str(work / f"{cell.name}-{seed}")
    command = [*cell.train(source, out), *settings(f"seed={seed}")]
    command += settings(f"threads={threads}") if threads else ()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call("-m", *command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    scores = json.loads(call("-m", *cell.evaluate(out)))
    record = {name: round(scores[name], 3) for name in ("epe_median_mm", "epe_mean_mm")}
    record["cpu_seconds"] = round(cpu_seconds)
    if cell.calibrated:
        call("-m", "cvhpe", "calibrate", out)
    if cell.noise:
        record["robust"] = json.loads(call(str(ROOT / "benchmarks" / "robustness.py"), out, "--json"))
    return record


def call(*arguments: str) -> str:
    """Standard output of a Python command; ends this program with its exit code if it fails."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        typer.echo(f"{shlex.join(arguments)}: exit code {done.returncode}", err=True)
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
    """Train and score cells, keep the results, and rewrite the tables."""
    paths = {"frames": frames, "rhd": rhd, "stb": stb, "icvl": icvl}
    chosen = [cell for cell in CELLS.values() if any(cell.name == n or cell.name.startswith(f"{n}-") for n in names)]
    if not chosen:
        raise SystemExit(f"no cell is called {' or '.join(names)}; see: python benchmarks/reproduce.py list")
    for cell in chosen:
        path, (name, missing) = paths[cell.data], DATA[cell.data]
        if path is None:
            typer.echo(f"{cell.name}: not run: needs {missing} (--{cell.data} PATH)")
            continue
        for seed in seeds.split(","):
            record = measure(cell, f"{name.split(':')[0]}:{path.resolve()}", int(seed), work, threads)
            results = load()
            results.setdefault(cell.name, {})[seed] = record
            save(results)
            typer.echo(f"{cell.name}, seed {seed}: {record}")
    tables()


@app.command()
def tables() -> None:
    """Rewrite the tables of docs/reproduction.md from the kept results."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), load()), encoding="utf-8")


if __name__ == "__main__":
    app()
