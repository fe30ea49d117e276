"""Read image files and arrays as upright RGB, and list the images and videos that a user names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cvhpe.errors import DataError, UserError

Array = np.ndarray

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


def read_image(path: Path) -> Array:
    """Read an image file, rotated upright as its EXIF data say.

    Args:
        path: the file, with 8 bits a channel.

    Returns:
        uint8 ``(H, W, 3)``, RGB.

    Raises:
        DataError: If the file does not exist, cannot be decoded or has other pixels.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I") or image.mode == "F":
                raise DataError(f"{path}: an image of {image.mode} pixels; give one of 8 bits a channel")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: not an image that can be read ({reason})") from None


def to_rgb_array(image: Any) -> Array:
    """Convert what a caller has as an image to an RGB array.

    Args:
        image: a path, a PIL image or an array uint8 ``(H, W, 3)``.

    Returns:
        uint8 ``(H, W, 3)``, RGB.

    Raises:
        UserError: If it is an array of another type or shape.
        DataError: If the file of a path cannot be read.

    Example:
        >>> to_rgb_array(Image.new("L", (6, 4))).shape
        (4, 6, 3)
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"an image of {array.dtype} {array.shape}: give uint8 (H, W, 3), RGB")
    return array


def list_media(paths: Iterable[Path]) -> list[Path]:
    """List the images and videos that the command line names.

    Args:
        paths: files, which are kept as they are, and folders, of which every image and video is taken.

    Returns:
        The files; those of a folder sorted by name.

    Raises:
        DataError: If a path does not exist, or a folder holds no image or video.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            media = sorted(p for p in path.iterdir() if p.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
            if not media:
                raise DataError(f"{path}: a folder without images or videos")
            files += media
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return files


def is_video(path: Path) -> bool:
    """Whether a file is read as a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def unique_stems(paths: Iterable[Path]) -> list[str]:
    """A name for the results of each file: its stem, or if two files share one, its name with the suffix.

    Example:
        >>> unique_stems([Path("a/x.jpg"), Path("b.png"), Path("a/x.png")])
        ['x_jpg', 'b', 'x_png']
        >>> unique_stems([Path("a/x.jpg"), Path("b/x.jpg")])
        ['x_jpg', 'x_jpg_2']
    """
    paths = list(paths)
    stems = Counter(path.stem for path in paths)
    used: Counter[str] = Counter()
    names = []
    for path in paths:
        name = path.stem if stems[path.stem] == 1 else path.name.replace(".", "_")
        used[name] += 1
        names.append(name if used[name] == 1 else f"{name}_{used[name]}")
    return names
