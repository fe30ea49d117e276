"""Pictures inside a page: data URIs, and sheets of many small pictures in one file."""

from __future__ import annotations

import base64
import io

import numpy as np

Array = np.ndarray
QUALITY = 80


def as_bytes(ready: Array) -> Array:
    """Network-ready pictures ``(n, 1 or 3, S, S)`` in [-0.5, 0.5] -> uint8 ``(n, S, S, 3)``; near is bright in depth.

    >>> as_bytes(np.full((1, 3, 2, 2), 0.5, np.float32)).max()
    np.uint8(255)
    """
    if ready.shape[1] == 1:
        ready = np.repeat(-ready, 3, axis=1)
    return ((ready + 0.5).clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def jpeg(picture: Array) -> str:
    """A picture uint8 ``(H, W, 3)`` as a data URI."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def resized(pictures: Array, side: int) -> Array:
    """Pictures uint8 ``(n, S, S, 3)`` -> ``(n, side, side, 3)``; smaller ones are left as they are."""
    from PIL import Image

    if pictures.shape[1] <= side:
        return pictures
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX)) for p in pictures])


def sheet(pictures: Array, side: int) -> dict[str, object]:
    """Many pictures uint8 ``(n, S, S, 3)`` in one: its data URI, the side of each in px, and how many to a row."""
    small = resized(pictures, side)
    n, side = len(small), small.shape[1]
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    canvas = np.zeros((rows * side, columns * side, 3), np.uint8)
    for i, picture in enumerate(small):
        y, x = divmod(i, columns)
        canvas[y * side : (y + 1) * side, x * side : (x + 1) * side] = picture
    return {"uri": jpeg(canvas), "side": side, "columns": columns}
