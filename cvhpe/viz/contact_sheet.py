"""A contact sheet of a data set: image crops around the hands with the annotated skeletons on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvhpe.data.reader import Reader
from cvhpe.errors import DataError
from cvhpe.geometry.camera import Crop, crop_around
from cvhpe.io.atomic import atomic_file
from cvhpe.plugin.sample import Array, Dataset, Sample
from cvhpe.viz.skeleton import plot_hand_2d
from cvhpe.viz.style import empty_figure, plot_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
CELL_PX = 320
_DPI = 100
_MARGIN = 1.6
_NEAR, _FAR = 250, 40
_TEXT: dict[str, Any] = {
    "color": "white",
    "fontsize": 8,
    "bbox": {"facecolor": "black", "alpha": 0.5, "pad": 1, "lw": 0},
}


def select_samples(dataset: Dataset, count: int, seed: int = 0) -> list[int]:
    """Choose random samples whose image files exist.

    Args:
        dataset: The data set.
        count: How many samples, at most.
        seed: Seed of the choice.

    Returns:
        Indices into the data set, ascending.

    Raises:
        DataError: No sample has its image files; names the first missing one.
    """
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    if not isinstance(dataset, Reader):
        return sorted(order[:count])
    chosen: list[int] = []
    for index in order:
        if len(chosen) == count:
            break
        if all(p.exists() for p in dataset.files(index).values()):
            chosen.append(index)
    if not chosen and order:
        first = next(p for p in dataset.files(0).values() if not p.exists())
        raise DataError(f"{first}: is missing, and no other sample has its images either")
    return sorted(chosen)


def save_contact_sheet(dataset: Dataset, out: Path, *, count: int = 12, seed: int = 0) -> list[str]:
    """Write a contact sheet of some samples as PNG.

    Args:
        dataset: The data set.
        out: The file to write.
        count: How many samples, at most.
        seed: Seed of the choice.

    Returns:
        The ids of the samples.

    Raises:
        DataError: The data set is empty, or none of its images exists.
    """
    samples = [dataset[i] for i in select_samples(dataset, count, seed)]
    if not samples:
        raise DataError(f"{out}: nothing to plot, the data set holds no sample")
    figure = contact_sheet(samples, dataset.layout)
    with atomic_file(out) as temporary:
        figure.savefig(temporary, format="png")
    return [s.id for s in samples]


def contact_sheet(samples: list[Sample], joint_layout: str) -> Figure:
    """A figure with one cell for each image of each sample.

    Joints that are not visible are black with a coloured edge; joints without annotation are left out. The images
    of a sample stay in one row.

    Args:
        samples: The samples; at least one.
        joint_layout: Name of their joint layout.

    Returns:
        A matplotlib figure, :data:`CELL_PX` pixels a cell.
    """
    cells = [(sample, kind) for sample in samples for kind in _kinds(sample)]
    per_sample = max(len(cells) // len(samples), 1)
    columns = min(len(cells), max(COLUMNS // per_sample, 1) * per_sample)
    rows = -(-len(cells) // columns)
    side = CELL_PX / _DPI
    with plot_style():
        figure = empty_figure(columns * side, rows * side, _DPI)
        figure.set_facecolor("#222222")
        for n, (sample, kind) in enumerate(cells):
            row, column = divmod(n, columns)
            _plot_cell(
                figure.add_axes((column / columns, 1 - (row + 1) / rows, 1 / columns, 1 / rows)),
                sample,
                kind,
                joint_layout,
            )
    return figure


def _kinds(sample: Sample) -> list[str]:
    """The images of a sample that are shown; one empty cell where it has none."""
    return [k for k in sample.images if k in ("rgb", "depth", "mask")] or [""]


def _plot_cell(axes: Any, sample: Sample, kind: str, joint_layout: str) -> None:
    crop = _crop(sample)
    axes.set_axis_off()
    if kind:
        axes.imshow(_as_rgb(sample.images[kind], sample, kind), interpolation="bilinear")
    if sample.joints2d_px is not None:
        plot_hand_2d(
            axes, sample.joints2d_px, joint_layout=joint_layout, visible=sample.visible, width=2.6, outline=True
        )
    (x, y), half = crop.centre, crop.side / 2
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    side = ("left", "right")[sample.side] if sample.side in (0, 1) else "side unknown"
    axes.text(0.02, 0.98, sample.id, transform=axes.transAxes, va="top", **_TEXT)
    axes.text(0.02, 0.02, f"{kind} {side}", transform=axes.transAxes, va="bottom", **_TEXT)


def _crop(sample: Sample) -> Crop:
    if sample.joints2d_px is not None and np.isfinite(sample.joints2d_px).all(-1).any():
        return crop_around(sample.joints2d_px, _MARGIN, sample.visible)
    if sample.box is not None:
        x, y, w, h = sample.box
        return Crop((x + w / 2, y + h / 2), max(w, h, 8.0) * 1.2)
    height, width = next((i.shape[:2] for i in sample.images.values()), (320, 320))
    return Crop(((width - 1) / 2, (height - 1) / 2), float(max(width, height)))


def _as_rgb(image: Array, sample: Sample, kind: str) -> Array:
    """An image as uint8 ``(H, W, 3)``; near is bright in depth, and missing depth is blue."""
    if image.ndim == 3:
        return image
    if kind == "mask":
        return np.repeat((image > 0)[..., None] * np.uint8(200), 3, -1)
    z = sample.joints3d_mm[:, 2] if sample.joints3d_mm is not None else image[image > 0]
    z = z[np.isfinite(z)]
    low, high = (z.min() - 40, z.max() + 60) if len(z) else (0.0, 1.0)
    grey = np.clip(_NEAR + (_FAR - _NEAR) * (image - low) / (high - low), 20, 255).astype(np.uint8)
    return np.where((image > 0)[..., None], grey[..., None], np.array([20, 20, 70], np.uint8))
