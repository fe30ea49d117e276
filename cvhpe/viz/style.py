"""Colours, names and settings shared by all plots, and how figures are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvhpe.io.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUTH, PREDICTION = "#1f5fd0", "#d62728"
"""Ground truth is blue, predictions are red (supplementary, figures 3 and 4)."""

MODALITY_COLOURS: Mapping[str, str] = {
    "rgb": "#2563c9",
    "joints3d": "#2e9e4f",
    "joints2d": "#e8b80c",
    "depth": "#8a4fc7",
}
"""Blue, green and yellow are the paper's (supplementary, figure 1); it has no colour for depth."""
_OTHERS = ("#d1495b", "#17a2a2", "#7a5c3e", "#e377c2", "#6b7280")

NAMES: Mapping[str, str] = {"rgb": "RGB", "joints2d": "2D joints", "joints3d": "3D joints", "depth": "depth"}
DPI = 200
_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dfe2e9",
    "grid.linewidth": 0.4,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3 fonts
    "savefig.facecolor": "white",
}


def modality_colours(modalities: list[str]) -> dict[str, str]:
    """A colour for every modality: the paper's where it has one, others in a fixed order.

    >>> modality_colours(["rgb", "silhouette"])
    {'rgb': '#2563c9', 'silhouette': '#d1495b'}
    """
    unknown = [m for m in modalities if m not in MODALITY_COLOURS]
    extra = {m: _OTHERS[i % len(_OTHERS)] for i, m in enumerate(unknown)}
    return {m: MODALITY_COLOURS.get(m, extra.get(m, "")) for m in modalities}


def display_name(modality: str) -> str:
    """The name of a modality in titles and legends.

    >>> display_name("joints2d"), display_name("sharp_edges")
    ('2D joints', 'sharp edges')
    """
    return NAMES.get(modality, modality.replace("_", " "))


@contextmanager
def plot_style() -> Iterator[None]:
    """Apply the plot settings of the package within a block."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def empty_figure(width: float, height: float, dpi: int = 100) -> Figure:
    """An empty figure that belongs to no window and needs no closing.

    Args:
        width: In inches.
        height: In inches.
        dpi: Dots per inch of :func:`rasterize`.

    Returns:
        A matplotlib figure on an Agg canvas.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def rasterize(figure: Figure) -> np.ndarray:
    """A figure as an image uint8 ``(H, W, 3)``."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.pdf`` atomically; equal figures give equal bytes.

    Args:
        figure: A matplotlib figure.
        stem: Path of the files without suffix.

    Returns:
        The two paths.
    """
    written = []
    stamps: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    for kind, metadata in stamps.items():
        path = stem.with_suffix(f".{kind}")
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=DPI, bbox_inches="tight", pad_inches=0.03, metadata=metadata)
        written.append(path)
    return written
