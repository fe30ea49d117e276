"""Figure 2 of the supplement: a straight line between two encoded hands, decoded at every step to everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cvhpe.evaluation.eval_set import EvalSet, Lacking
from cvhpe.viz.figures.axes import IMAGE_MODALITIES, axes_at, mean_errors, over, show, tighten
from cvhpe.viz.figures.style import blank, label
from cvhpe.viz.skeleton import frame3d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 7


@dataclass(frozen=True)
class Walk:
    """Two held-out hands ``ends``, seen in the modality ``source``, and latents ``[n, D]`` on the line between them."""

    source: str
    ends: np.ndarray
    z: Tensor


def source_of(held: EvalSet) -> str:
    """What is encoded: a picture where the run takes one, else anything that is no 3D hand already."""
    order = [*IMAGE_MODALITIES, *(m for m in held.inputs if m != "joints3d"), "joints3d"]
    return next(m for m in order if m in held.inputs)


def walk(held: EvalSet, steps: int, between: tuple[int, int] | None = None) -> Walk:
    """A walk between two held-out hands, by default two of one side that differ much and are well predicted."""
    source = source_of(held)
    ends = np.array(between) if between else ends_of(held, source)
    mu = held.encode(source, ends).mu
    t = torch.linspace(0, 1, steps)[:, None]
    return Walk(source, ends, (1 - t) * mu[:1] + t * mu[1:])


def ends_of(held: EvalSet, source: str) -> np.ndarray:
    """Two rows of the same hand side whose latents lie far apart, of the better predicted half of a draw.

    A hand that the run does not understand would be a poor end of a walk.
    """
    rows = held.some(256, source, *(["joints3d"] if "joints3d" in held.outputs else []))
    if len(rows) < 2:
        raise Lacking(f"fewer than two held-out samples have {source}")
    if "joints3d" in held.outputs and len(held.judged(rows)) >= 8:
        rows = held.judged(rows)
        error = mean_errors(held.truth(rows), held.predict(source, rows), held.visible(rows))
        rows = rows[np.argsort(error, kind="stable")[: len(rows) // 2]]
    mu = held.encode(source, rows).mu.numpy()
    far = np.linalg.norm(mu[:, None] - mu[None], axis=-1)
    side = held.arrays["side"].numpy()[rows]
    far = np.where(side[:, None] == side[None], far, 0)
    return rows[list(np.unravel_index(int(far.argmax()), far.shape))]


def figure(held: EvalSet, steps: int = STEPS, between: tuple[int, int] | None = None) -> tuple[Figure, str]:
    """The figure and its caption: a row for every modality the run decodes, a column for every step.

    Where the run decodes both, 2D joints lie over the RGB picture, as in the paper; the outermost columns
    show what was encoded.
    """
    path = walk(held, steps, between)
    decoded = {name: held.decode(name, path.z) for name in held.outputs}
    notes = [f"{label(n)}: no way to draw it" for n in decoded if held.run.model.modalities[n].draw is None]
    order = ("rgb", "depth", "joints2d", "joints3d")
    names = [n for n in decoded if held.run.model.modalities[n].draw is not None]
    names.sort(key=lambda n: order.index(n) if n in order else 2)
    # A 2D run without pictures still gets a row of its own for the 2D joints.
    overlaid = "rgb" in names and "joints2d" in names
    rows = [n for n in names if not (overlaid and n == "rgb")]
    if not rows:
        raise Lacking("none of what this run decodes can be drawn")
    inputs = held.to_network_input(path.source, path.ends).float().numpy()
    drawable = held.run.model.modalities[path.source].draw is not None
    rows = (["rgb"] if overlaid else []) + rows
    drawn = blank(1.15 * (steps + 2), 1.22 * len(rows))
    for i, name in enumerate(rows):
        reach = None
        if name == "joints3d":
            reach = 1.02 * float(np.abs(decoded[name] - decoded[name].mean(1, keepdims=True)).max())
        for k in range(steps):
            axes = axes_at(drawn, held, name, len(rows), steps + 2, i * (steps + 2) + k + 2)
            if overlaid and name == "joints2d":
                show(axes, held, "rgb", decoded["rgb"][k])
                over(axes, decoded[name][k], decoded["rgb"].shape[-1])
            else:
                show(axes, held, name, decoded[name][k])
            if name == "joints3d":
                frame3d(axes, decoded[name][k], reach=reach)
            if i == 0:
                axes.set_title(f"{k / max(steps - 1, 1):.2f}", color="#6b7280", pad=3)
        if i > 0:
            # Under the first input nothing is drawn: there is room to say what a row is.
            axes = drawn.add_subplot(len(rows), steps + 2, i * (steps + 2) + 1)
            axes.set_axis_off()
            said = "RGB and\n2D joints" if overlaid and name == "joints2d" else label(name)
            axes.text(0.97, 0.5, said, ha="right", va="center", color="#4b5563")
        if i == 0 and drawable:
            for end, column, title in ((0, 1, "input A"), (1, steps + 2, "input B")):
                axes = axes_at(drawn, held, path.source, len(rows), steps + 2, column)
                show(axes, held, path.source, inputs[end])
                axes.set_title(title, pad=3)
    tighten(drawn, above=0.2, below=0.0)
    text = (
        f"Latent walk: two held-out hands seen as {label(path.source)} (outermost) are encoded, and {steps} points on "
        f"the straight line between them decoded to {', '.join(label(n) for n in names)}. All of a column comes from "
        "one point." + "".join(f" {n}." for n in notes)
    )
    return drawn, text
