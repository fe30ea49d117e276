"""Predictions over their image: 2D skeletons on it, and beside it each hand enlarged and in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvhpe.inference.predict import SIDES, Hand
from cvhpe.io.atomic import atomic_file
from cvhpe.viz.skeleton import plot_hand_2d, plot_hand_3d
from cvhpe.viz.style import empty_figure, plot_style, rasterize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

_MAX_ENLARGED = 3
_HEIGHT = 5.0  # inches
_DPI = 100


def overlay(image: Array, hands: Sequence[Hand], name: str) -> Figure:
    """Plot predicted hands over an image.

    Left, the image with all 2D skeletons. Right, for each of the first three hands, its part of the image
    enlarged and its 3D joints, with its side and, if it was sampled, its mean uncertainty.

    Args:
        image: uint8 ``(H, W, 3)``.
        hands: The predicted hands.
        name: Their joint layout.

    Returns:
        A matplotlib figure.
    """
    height, width = image.shape[:2]
    rows = min(len(hands), _MAX_ENLARGED)
    left = min(max(_HEIGHT * width / height, 2.0), 12.0)
    side = _HEIGHT / max(rows, 1)
    total = left + 2 * side * bool(rows)
    with plot_style():
        figure = empty_figure(total, _HEIGHT, _DPI)
        axes = figure.add_axes((0, 0, left / total, 1))
        _plot_on_image(axes, image, hands, name, width=1.2)
        _set_view(axes, (-0.5, width - 0.5), (height - 0.5, -0.5))
        for row, hand in enumerate(hands[:rows]):
            bottom = 1 - (row + 1) / rows
            crop = figure.add_axes((left / total, bottom, side / total, 1 / rows))
            crop.set_facecolor("black")
            _plot_on_image(crop, image, [hand], name, width=3.0 * side / _HEIGHT + 0.6)
            (x0, y0), (x1, y1) = hand.joints2d_px.min(0), hand.joints2d_px.max(0)
            (x, y), half = ((x0 + x1) / 2, (y0 + y1) / 2), 0.7 * max(x1 - x0, y1 - y0, 1.0)
            _set_view(crop, (x - half, x + half), (y + half, y - half))
            place = ((left + side) / total, bottom, side / total, 0.92 / rows)
            axes_3d: Any = figure.add_axes(place, projection="3d")
            plot_hand_3d(axes_3d, hand.joints3d_mm, joint_layout=name, width=2.0)
            axes_3d.set_box_aspect((1, 1, 1), zoom=0.95)
            axes_3d.view_init(elev=20, azim=-55)
            axes_3d.set_title(_title(hand), fontsize=9 if rows == 1 else 7, pad=0)
    return figure


def _plot_on_image(axes: Any, image: Array, hands: Sequence[Hand], name: str, width: float) -> None:
    axes.imshow(image)
    for hand in hands:
        plot_hand_2d(axes, hand.joints2d_px, joint_layout=name, width=width, outline=True)


def _set_view(axes: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set(xlim=x, ylim=y, xticks=[], yticks=[])


def _title(hand: Hand) -> str:
    side = f"{SIDES[hand.side]} hand"
    if hand.uncertainty_mm is None:
        return side
    # the standard deviation of uncalibrated samples is not an error estimate
    what = "uncertainty" if hand.calibrated else "uncalibrated SD"
    return f"{side}, {what} {np.sqrt(np.mean(hand.uncertainty_mm**2)):.0f} mm"


def save_overlay(path: Path, image: Array, hands: Sequence[Hand], name: str) -> None:
    """Write :func:`overlay` as PNG, atomically.

    Args:
        path: The file to write.
        image: uint8 ``(H, W, 3)``.
        hands: The predicted hands.
        name: Their joint layout.
    """
    with atomic_file(path) as temporary:
        overlay(image, hands, name).savefig(temporary, format="png")


def overlay_frame(image: Array, hands: Sequence[Hand], name: str, size: tuple[int, int]) -> Array:
    """:func:`overlay` as a video frame of fixed size, padded with white.

    Args:
        image: uint8 ``(H, W, 3)``.
        hands: The predicted hands.
        name: Their joint layout.
        size: Width and height of the frame, px.

    Returns:
        uint8 ``(height, width, 3)``.
    """
    from PIL import Image

    frame = Image.new("RGB", size, "white")
    shown = Image.fromarray(rasterize(overlay(image, hands, name)))
    shown.thumbnail(size)
    frame.paste(shown, (0, (size[1] - shown.height) // 2))
    return np.asarray(frame)
