"""All figures of a run: each is drawn and written, or left out with a word why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cvhpe.errors import UserError, nearest
from cvhpe.evaluation.eval_set import EvalSet, Lacking
from cvhpe.io.atomic import write_text
from cvhpe.runs.run_dir import Run
from cvhpe.viz.figures import depth, latent_interpolation, posterior, predictions, style, tsne

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("tsne", "walk", "predictions", "samples", "depth")
"""The supplement's figures 1 to 5."""


@dataclass(frozen=True)
class Made:
    """One figure: its files and caption, or why it was left out (``files`` is empty then)."""

    name: str
    files: tuple[str, ...] = ()
    caption: str = ""
    left_out: str = ""


def wanted(only: Sequence[str]) -> list[str]:
    """The figures that were asked for; all where none is named."""
    for name in only:
        if name not in NAMES:
            raise UserError(f"--only {name}: {nearest(name, NAMES)}")
    return [n for n in NAMES if not only or n in only]


def make(
    held: EvalSet,
    out: Path,
    separate: Callable[[], Run],
    only: Sequence[str] = (),
    between: tuple[int, int] | None = None,
    done: Callable[[Made], None] = lambda made: None,
) -> list[Made]:
    """Draw the figures of a run into the folder ``out`` and list them in its ``figures.json``.

    separate: gives the separately trained counterpart, when the t-SNE needs it.
    """
    made = []
    for name in wanted(only):
        try:
            found = _drawn(name, held, out, separate, between)
        except UserError as error:
            if only:
                raise
            # The others need neither scikit-learn nor a second run.
            found = [Made(name, left_out=str(error))]
        for one in found:
            done(one)
            made.append(one)
    write_text(out / "figures.json", json.dumps([asdict(m) for m in made], indent=1) + "\n")
    return made


def _drawn(
    name: str, held: EvalSet, out: Path, separate: Callable[[], Run], between: tuple[int, int] | None
) -> list[Made]:
    """One of the supplement's figures; predictions are one figure for every input other than depth and 3D."""
    if name == "predictions":
        seen = [s for s in held.inputs if s not in ("depth", "joints3d")]
        if not seen:
            return [Made(name, left_out=f"this run encodes {', '.join(held.inputs)} alone")]
        several = len(seen) > 1
        return [
            _one(f"{name}_{s}" if several else name, out, lambda s=s: predictions.figure(held, s))  # type: ignore[misc]
            for s in seen
        ]
    drawings: dict[str, Callable[[], tuple[Figure, str]]] = {
        "tsne": lambda: tsne.figure(held, separate),
        "walk": lambda: latent_interpolation.figure(held, between=between),
        "samples": lambda: posterior.figure(held),
        "depth": lambda: depth.figure(held),
    }
    return [_one(name, out, drawings[name])]


def _one(name: str, out: Path, drawing: Callable[[], tuple[Figure, str]]) -> Made:
    try:
        with style.plot_style():
            figure, caption = drawing()
            files = style.save(figure, out / name)
    except Lacking as lacking:
        return Made(name, left_out=str(lacking))
    return Made(name, tuple(f.name for f in files), caption)
