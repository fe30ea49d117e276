"""The cells of the paper's tables and of ours: how each is trained and scored, and what the paper says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

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
        taught = settings(f"pseudo_label_run={out.replace(self.name, self.teacher)}") if self.teacher else ()
        return ["cvhpe", "train", *self.options, *taught, "--data", data, "--out", out]

    def evaluate(self, out: str = "") -> list[str]:
        turned = ["--tta", str(self.turns)] if self.turns else []
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
        some = (*options, *settings(f"label_fraction={share / 100:g}"), *FEW)
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


FEW = settings("min_steps=1500", "ema_decay=0.996")
LABELS = {
    "alone": of("best", "joints2d", 1),
    "rays": of("best", "rays", 1),
    "taught": of("best", "joints2d", 1),
}
"""Columns: labelled frames alone; the teacher, which knows their cameras; what it teaches, which does not."""
CELLS = {cell.name: cell for cell in cells()}
