"""Images of the report: sprite sheets as data URIs, and thumbnails of hands."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch

from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.viz.figures.axes import IMAGE_MODALITIES

Array = np.ndarray
QUALITY = 80


def to_uint8_images(values: Array) -> Array:
    """Convert network images to uint8; near is bright in depth images.

    Args:
        values: ``(n, 1 or 3, S, S)`` in [-0.5, 0.5].

    Returns:
        uint8 ``(n, S, S, 3)``.

    Example:
        >>> to_uint8_images(np.full((1, 3, 2, 2), 0.5, np.float32)).max()
        np.uint8(255)
    """
    if values.shape[1] == 1:
        values = np.repeat(-values, 3, axis=1)
    return ((values + 0.5).clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def downsize(images: Array, side: int) -> Array:
    """Shrink square images; smaller ones keep their size.

    Args:
        images: uint8 ``(n, S, S, 3)``.
        side: Largest side, px.

    Returns:
        uint8 ``(n, s, s, 3)`` with ``s = min(S, side)``.
    """
    from PIL import Image

    if images.shape[1] <= side:
        return images
    return np.stack([np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BOX)) for i in images])


def sprite_sheet(images: Array, side: int) -> dict[str, Any]:
    """Arrange images in a grid and encode it as JPEG.

    Args:
        images: uint8 ``(n, S, S, 3)``.
        side: Largest side of an image in the grid, px.

    Returns:
        ``uri``, the data URI; ``side``, that of each image; ``columns``, images in a row.
    """
    from PIL import Image

    small = downsize(images, side)
    n, side = len(small), small.shape[1]
    columns = int(np.ceil(np.sqrt(n)))
    canvas = np.zeros((-(-n // columns) * side, columns * side, 3), np.uint8)
    for i, image in enumerate(small):
        y, x = divmod(i, columns)
        canvas[y * side : (y + 1) * side, x * side : (x + 1) * side] = image
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "JPEG", quality=QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return {"uri": uri, "side": side, "columns": columns}


def thumbnails(eval_set: EvalSet, rows: Array, side: int) -> dict[str, Any]:
    """Small images of hands, or their 2D joints where the run has no image modality.

    Args:
        eval_set: The held-out samples.
        rows: The hands ``(n,)``.
        side: Largest side of a thumbnail, px.

    Returns:
        ``sheet``, a sprite sheet, or ``points``, 2D joints ``(n, J, 2)`` that fill [-0.5, 0.5].
    """
    for name in IMAGE_MODALITIES:
        if name in eval_set.run.model.modalities and len(eval_set.rows_with(name)):
            chunks = np.array_split(rows, -(-len(rows) // 256))
            inputs = (eval_set.to_network_input(name, chunk).float().numpy() for chunk in chunks)
            return {"sheet": sprite_sheet(np.concatenate([downsize(to_uint8_images(x), side) for x in inputs]), side)}
    return {"points": _normalized_joints(eval_set, rows)}


def _normalized_joints(eval_set: EvalSet, rows: Array) -> Array:
    """2D joints ``(n, J, 2)`` of rows, or x and y of the 3D joints, centred and scaled to [-0.5, 0.5]."""
    fields = eval_set.labels(rows)
    has_2d = "joints2d" in fields and bool(fields["has_joints2d"].all())
    points = (fields["joints2d"] if has_2d else torch.from_numpy(eval_set.true_joints(rows)[..., :2])).numpy()
    low, high = np.nanmin(points, axis=1, keepdims=True), np.nanmax(points, axis=1, keepdims=True)
    return (points - (low + high) / 2) / np.maximum((high - low).max(-1, keepdims=True), 1e-9)
