"""A contact sheet of a data set: hands cropped from their pictures, with the labelled skeletons on them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cvhpe.errors import DataError
from cvhpe.geometry.camera import Crop, crop_around
from cvhpe.geometry.skeleton import Layout, layout
from cvhpe.plugin.sample import Array, Dataset, Sample

_AROUND = 1.6
_NEAR, _FAR = 250, 40


def choose(dataset: Dataset, count: int, seed: int = 0) -> list[int]:
    """``count`` samples to look at, spread over the data set; those whose picture files are there.

    DataError names the first missing file where no sample has its pictures.
    """
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    files = getattr(dataset, "files", None)
    if files is None:
        return sorted(order[:count])
    chosen: list[int] = []
    for index in order:
        if len(chosen) == count:
            break
        if all(p.exists() for p in files(index).values()):
            chosen.append(index)
    if not chosen and order:
        first = next(p for p in files(0).values() if not p.exists())
        raise DataError(f"{first}: is missing, and no other sample has its pictures either")
    return sorted(chosen)


def contact_sheet(
    dataset: Dataset, out: Path, *, count: int = 12, seed: int = 0, cell: int = 320, columns: int = 6
) -> list[str]:
    """Write the sheet as PNG: one cell for each picture of each chosen sample. Gives the samples' ids.

    ``columns`` is the cells of a row at most; the pictures of a sample stay in one.

    Joints that are not visible are drawn hollow, joints without a label not at all.
    """
    of = layout(dataset.layout)
    samples = [dataset[i] for i in choose(dataset, count, seed)]
    if not samples:
        raise DataError(f"{out}: nothing to draw, the data set holds no sample")
    cells = [picture for s in samples for picture in draw_sample(s, of, cell)]
    per_sample = max(len(cells) // len(samples), 1)
    columns = min(len(cells), max(columns // per_sample, 1) * per_sample)
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), "#222222")
    for n, picture in enumerate(cells):
        sheet.paste(picture, (n % columns * cell, n // columns * cell))
    save_png(sheet, out)
    return [s.id for s in samples]


def save_png(image: Image.Image, out: Path) -> None:
    """Write a picture so that a full disk or an interruption leaves no half of it."""
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        image.save(partial, "PNG")
        partial.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # where its folder is none, there is nothing to take away
            partial.unlink(missing_ok=True)


def draw_sample(sample: Sample, of: Layout, cell: int = 320) -> list[Image.Image]:
    """A sample's pictures, cropped about the hand, each with the skeleton; a blank one where it has none."""
    shown: dict[str, Array | None] = {k: v for k, v in sample.images.items() if k in ("rgb", "depth", "mask")}
    crop = _crop(sample)
    drawn = []
    for kind, picture in (shown or {"": None}).items():
        if picture is None:
            image = Image.new("RGB", (cell, cell), "#222222")
        else:
            half = crop.side / 2
            x, y = (c + 0.5 for c in crop.centre)
            box = (x - half, y - half, x + half, y + half)
            full = Image.fromarray(_as_rgb(picture, sample, kind))
            image = full.transform((cell, cell), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
        if sample.joints2d_px is not None:
            at = (crop.fraction(sample.joints2d_px) + 0.5) * cell - 0.5
            draw_skeleton(image, at, of, sample.visible)
        side = ("left", "right")[sample.side] if sample.side in (0, 1) else "side unknown"
        text = ImageDraw.Draw(image)
        text.text((5, 3), sample.id, "#ffffff", stroke_width=1, stroke_fill="#000000")
        text.text((5, cell - 15), f"{kind} {side}", "#ffffff", stroke_width=1, stroke_fill="#000000")
        drawn.append(image)
    return drawn


def draw_skeleton(image: Image.Image, at: Array, of: Layout, visible: Array | None = None) -> None:
    """Draw bones and joints at pixels ``(J, 2)`` of the image, a colour a finger."""
    draw = ImageDraw.Draw(image)
    far = 4 * max(image.size)
    known = np.isfinite(at).all(-1) & (np.abs(np.nan_to_num(at)) < far).all(-1)
    for a, b in of.bones:
        if known[a] and known[b]:
            draw.line([*at[a], *at[b]], of.colour(b), 3)
    for j in np.flatnonzero(known):
        x, y = at[j]
        r = 6 if j == of.root else 4
        seen = visible is None or visible[j]
        colour = of.colour(int(j))
        draw.ellipse([x - r, y - r, x + r, y + r], colour if seen else None, "#000000" if seen else colour)


def _crop(sample: Sample) -> Crop:
    if sample.joints2d_px is not None and np.isfinite(sample.joints2d_px).all(-1).any():
        return crop_around(sample.joints2d_px, _AROUND, sample.visible)
    if sample.box is not None:
        x, y, w, h = sample.box
        return Crop((x + w / 2, y + h / 2), max(w, h, 8.0) * 1.2)
    height, width = next((i.shape[:2] for i in sample.images.values()), (320, 320))
    return Crop(((width - 1) / 2, (height - 1) / 2), float(max(width, height)))


def _as_rgb(picture: Array, sample: Sample, kind: str) -> Array:
    if picture.ndim == 3:
        return picture
    if kind == "mask":
        return np.repeat((picture > 0)[..., None] * np.uint8(200), 3, -1)
    # Depth: the hand's own range from bright to dark, holes in blue.
    z = sample.joints3d_mm[:, 2] if sample.joints3d_mm is not None else picture[picture > 0]
    z = z[np.isfinite(z)]
    low, high = (z.min() - 40, z.max() + 60) if len(z) else (0.0, 1.0)
    grey = np.clip(_NEAR + (_FAR - _NEAR) * (picture - low) / (high - low), 20, 255).astype(np.uint8)
    return np.where((picture > 0)[..., None], grey[..., None], np.array([20, 20, 70], np.uint8))
