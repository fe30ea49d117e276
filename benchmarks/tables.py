"""The tables of ``docs/reproduction.md``, made of the figures that :mod:`reproduce` keeps."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from cells import CELLS, LABELS, PLACES, SHARES, Cell

Results = dict[str, dict[str, Any]]
"""Cell -> seed -> what came out."""


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
    """FusionParams a cell is run, as the page says it."""
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


OURS: dict[str, Callable[[Results], str]] = {
    "frames": frames_table,
    "regressor": regressor_table,
    "robust": robust_table,
    "rays": rays_table,
    "labels": labels_table,
}
"""Markers of the page -> what makes the table between them."""


def with_tables(page: str, results: Results) -> str:
    """The page with all its tables written anew."""
    for name in ("table3", "table4", "depth"):
        page = rewritten(page, name, paper_table(name, results))
    for name, table in OURS.items():
        page = rewritten(page, name, table(results))
    return page


def rewritten(page: str, name: str, table: str) -> str:
    """The page with what stands between the markers of ``name`` replaced."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"docs/reproduction.md: lacks the markers {begin} and {end}")
    return f"{head}{begin}\n{table}\n{end}{tail}"
