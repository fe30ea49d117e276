"""What was predicted, to look at: the picture with 2D skeletons over it; every hand enlarged and in 3D beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.geometry.skeleton import layout
from cvhpe.inference.predict import SIDES, Hand
from cvhpe.io import atomic
from cvhpe.viz.skeleton import draw3d

Array = np.ndarray

_MOST_BESIDE = 3
_HEIGHT = 5.0  # inches, at 100 dots
_DOTS = 100


def overlay(picture: Array, hands: Sequence[Hand], name: str) -> Any:
    """A matplotlib figure of a picture uint8 ``(H, W, 3)`` and its hands in the joint layout ``name``.

    Left the picture, its hands in the colours of their fingers; right of it, for each of the first three hands, its
    part of the picture enlarged and its 3D joints as the camera saw them, turned a little, with its side and,
    where it was sampled, its mean uncertainty.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = picture.shape[:2]
    rows = min(len(hands), _MOST_BESIDE)
    left = min(max(_HEIGHT * width / height, 2.0), 12.0)
    side = _HEIGHT / max(rows, 1)
    total = left + 2 * side * bool(rows)
    figure = Figure(figsize=(total, _HEIGHT), dpi=_DOTS)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, left / total, 1))
    axes.imshow(picture)
    for hand in hands:
        _draw_over(axes, hand, name, width=1.2)
    _frame(axes, (-0.5, width - 0.5), (height - 0.5, -0.5))
    for row, hand in enumerate(hands[:rows]):
        bottom = 1 - (row + 1) / rows
        near = figure.add_axes((left / total, bottom, side / total, 1 / rows))
        near.imshow(picture)
        near.set_facecolor("black")
        _draw_over(near, hand, name, width=3.0 * side / _HEIGHT + 0.6)
        (x0, y0), (x1, y1) = hand.joints2d_px.min(0), hand.joints2d_px.max(0)
        reach = 0.7 * max(x1 - x0, y1 - y0, 1.0)
        _frame(near, ((x0 + x1) / 2 - reach, (x0 + x1) / 2 + reach), ((y0 + y1) / 2 + reach, (y0 + y1) / 2 - reach))
        solid: Any = figure.add_axes(((left + side) / total, bottom, side / total, 0.92 / rows), projection="3d")
        draw3d(solid, hand.joints3d_mm, name=name, width=2.0)
        solid.set_box_aspect((1, 1, 1), zoom=0.95)
        solid.view_init(elev=20, azim=-55)
        solid.set_title(_title(hand), fontsize=9 if rows == 1 else 7, pad=0)
    return figure


def _frame(axes: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_over(axes: Any, hand: Hand, name: str, width: float) -> None:
    one, uv = layout(name), hand.joints2d_px
    for a, b in one.bones:
        # a dark rim keeps the bones apart from skin and background of any colour
        axes.plot(uv[[a, b], 0], uv[[a, b], 1], color="black", lw=width + 1.2, solid_capstyle="round", alpha=0.6)
        axes.plot(uv[[a, b], 0], uv[[a, b], 1], color=one.colour(b), lw=width, solid_capstyle="round")
    colours = [one.colour(j) for j in range(len(one))]
    axes.scatter(uv[:, 0], uv[:, 1], s=6 * width, c=colours, edgecolors="black", linewidths=0.5, zorder=3)


def _title(hand: Hand) -> str:
    side = f"{SIDES[hand.side]} hand"
    if hand.uncertainty_mm is None:
        return side
    # a bare spread is no promise of how far the truth may be
    what = "uncertain by" if hand.calibrated else "samples spread by"
    return f"{side}, {what} {np.sqrt(np.mean(hand.uncertainty_mm**2)):.0f} mm"


def save_overlay(path: Path, picture: Array, hands: Sequence[Hand], name: str) -> None:
    """Write the overlay as PNG, whole or not at all."""
    with atomic.atomic_file(path) as temporary:
        overlay(picture, hands, name).savefig(temporary, format="png")


def overlay_pixels(picture: Array, hands: Sequence[Hand], name: str, size: tuple[int, int] | None = None) -> Array:
    """The overlay as uint8 ``(H, W, 3)``; of a ``size`` (width, height), as every frame of a video must have."""
    from PIL import Image

    figure = overlay(picture, hands, name)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    if size is None:
        return pixels
    canvas = Image.new("RGB", size, "white")
    shown = Image.fromarray(pixels)
    shown.thumbnail(size)
    canvas.paste(shown, (0, (size[1] - shown.height) // 2))
    return np.asarray(canvas)
