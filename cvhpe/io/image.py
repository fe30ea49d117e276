"""LossSummary photographs and videos, upright and in RGB, whatever they come as."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cvhpe.errors import DataError, UserError

Array = np.ndarray

IMAGE_MODALITIES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


def read_picture(path: Path) -> Array:
    """A photograph as uint8 ``(H, W, 3)`` RGB, turned upright as its EXIF data say."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I") or image.mode == "F":
                raise DataError(f"{path}: a picture of {image.mode} pixels; give one of 8 bits a channel")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: not a picture that can be read ({reason})") from None


def as_picture(image: Any) -> Array:
    """What a caller has as a picture, a path, a PIL image or an array, as uint8 ``(H, W, 3)``.

    >>> as_picture(np.zeros((4, 6, 3), np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(image, str | Path):
        return read_picture(Path(image))
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"a picture of {array.dtype} {array.shape}: give uint8 (H, W, 3), RGB")
    return array


def gather(paths: Iterable[Path]) -> list[Path]:
    """The pictures and videos that the command line names: files as they are, folders by what lies in them.

    Raises :class:`DataError` for a path that is not there and a folder without any.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in (*IMAGE_MODALITIES, *VIDEOS))
            if not inside:
                raise DataError(f"{path}: a folder without pictures or videos")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return found


def is_video(path: Path) -> bool:
    """Whether a file is read as a video, by its name."""
    return path.suffix.lower() in VIDEOS


def stems(paths: Iterable[Path]) -> list[str]:
    """A name for the results of each file: its stem, or where two share one, its name with the ending.

    >>> stems([Path("a/x.jpg"), Path("b.png"), Path("a/x.png")])
    ['x_jpg', 'b', 'x_png']
    >>> stems([Path("a/x.jpg"), Path("b/x.jpg")])
    ['x_jpg', 'x_jpg_2']
    """
    paths = list(paths)
    count: dict[str, int] = {}
    for path in paths:
        count[path.stem] = count.get(path.stem, 0) + 1
    taken: dict[str, int] = {}
    names = []
    for path in paths:
        name = path.stem if count[path.stem] == 1 else path.name.replace(".", "_")
        taken[name] = taken.get(name, 0) + 1
        names.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return names
