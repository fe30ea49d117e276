"""Read the files of a data set. Whatever is wrong with one becomes a ``DataError`` of one line that names it.

Files may be missing, damaged or hostile: nothing here allocates more than the file's size, or than the sizes that its
data set is known to have.
"""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from cvhpe.errors import DataError

Array = np.ndarray

_MAX_TEXT_BYTES = 4 << 30
_MAX_PIXELS = 1 << 26
_MAX_MAT_BYTES = 4 << 30
_MAX_MAGNITUDE = np.float64(1e12)  # far above any millimetre, pixel or focal length; its cube fits single precision
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")


def reject(path: Path | str, reason: str) -> NoReturn:
    """Refuse a file with the line ``path: reason``.

    Args:
        path: the file or folder.
        reason: what is wrong; line breaks become spaces, and it is cut after 300 characters.

    Raises:
        DataError: Always.
    """
    raise DataError(f"{path}: {' '.join(str(reason).split())[:300]}")


def is_plausible(values: Array) -> Array:
    """Which numbers are finite and no larger than any measurement: bool, the shape of ``values``.

    Example:
        >>> is_plausible(np.array([0.5, -3e4, 1e300, np.nan, -np.inf])).tolist()
        [True, True, False, False, False]
    """
    return np.abs(values) <= _MAX_MAGNITUDE


def require_plausible(path: Path | str, what: str, values: Array) -> None:
    """Refuse labels with a number that is not plausible: damaged bytes give 1e300 as often as NaN.

    Args:
        path: the file, for the message.
        what: which labels, for the message.
        values: the numbers.

    Raises:
        DataError: If a number is not finite or too large.
    """
    bad = ~is_plausible(values)
    if bad.any():
        is_large = np.isfinite(values[bad].flat[0])
        reject(path, f"{what} holds {'a number beyond reason' if is_large else 'a number that is not finite'}")


def existing_folder(path: Path, name: str) -> Path:
    """The folder of a data set, which must exist and be unpacked.

    Args:
        path: as the user gave it.
        name: the data set's name, for messages.

    Returns:
        ``path``.

    Raises:
        DataError: If there is no such folder.
    """
    if path.is_dir():
        return path
    if not path.exists():
        reject(path, f"no such folder; give the folder of {name} as it was unpacked")
    refuse_archive(path, name)
    reject(path, f"is a file; data set {name!r} needs the folder it was unpacked to")


def refuse_archive(path: Path, name: str) -> None:
    """Ask the user to unpack an archive.

    Args:
        path: the file.
        name: the data set's name, for the message.

    Raises:
        DataError: If the file is an archive.
    """
    if zipfile.is_zipfile(path) or path.name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")):
        reject(path, f"is a packed archive; unpack it and give the folder: --data {name}:FOLDER")


def require_files(root: Path, names: Iterable[str]) -> None:
    """Refuse a folder that lacks files.

    Args:
        root: the folder.
        names: what must be in it.

    Raises:
        DataError: If some are missing; it names the first few.
    """
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        reject(root, f"lacks {first_few(missing)}")


def first_few(items: Sequence[object]) -> str:
    """Three items at most, and how many more there are.

    Example:
        >>> first_few(["a", "b", "c", "d"])
        'a, b, c and 1 more'
    """
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(map(str, items[:3])) + more


def read_bytes(path: Path, max_bytes: int = _MAX_TEXT_BYTES) -> bytes:
    """Read a regular file.

    Args:
        path: the file.
        max_bytes: the largest size that is read.

    Returns:
        Its bytes.

    Raises:
        DataError: If it is missing, too large, not a regular file or cannot be read.
    """
    try:
        # A device or a pipe would never end.
        if path.exists() and not path.is_file():
            reject(path, "is not a file")
        if (size := path.stat().st_size) > max_bytes:
            reject(path, f"has {size} bytes; at most {max_bytes} were expected")
        return path.read_bytes()
    except FileNotFoundError:
        reject(path, "is missing")
    except OSError as error:
        reject(path, f"cannot be read: {error.strerror or error}")


def read_text(path: Path) -> str:
    """Read a UTF-8 text file."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reject(path, f"is not text: byte {error.start} is not UTF-8")


def read_table(path: Path, lines: Sequence[tuple[int, str]], count: int) -> Array:
    """Parse lines of a text file.

    A valid table is parsed in one pass in C (ICVL's list has 16 million numbers); an invalid one line by line, to name
    the line that is wrong.

    Args:
        path: the file, for messages.
        lines: the number of each line, and its text.
        count: how many numbers a line must have.

    Returns:
        float64 ``(len(lines), count)``.

    Raises:
        DataError: If a line has another count, or anything but plausible numbers.
    """
    if all(len(line.split()) == count for _, line in lines):
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # what numpy says of text that is no number
            with suppress(DeprecationWarning, ValueError):
                values = np.fromstring(" ".join(line for _, line in lines), np.float64, sep=" ")
                if values.size == len(lines) * count and is_plausible(values).all():
                    return values.reshape(-1, count)
    rows = [_parse_line(path, line, number, count) for number, line in lines]
    return np.array(rows, np.float64).reshape(-1, count)


def _parse_line(path: Path, line: str, number: int, count: int) -> Array:
    """``count`` plausible numbers of a line; ``number`` is the line's, from 1, for messages."""
    words = line.split()
    if len(words) != count:
        reject(path, f"line {number} has {len(words)} numbers, expected {count}")
    try:
        values = np.array(words, np.float64)
    except ValueError:
        reject(path, f"line {number} holds something that is no number")
    require_plausible(path, f"line {number}", values)
    return values


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reject(path, f"is not JSON or truncated: {error}")


def read_mat(path: Path, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, Array]:
    """Read variables of a MATLAB 5 file. Shapes are checked in the headers, before anything is decompressed.

    Args:
        path: the file.
        shapes: variable -> the shape it must have; None stands for any length.

    Returns:
        Variable -> float64 array.

    Raises:
        DataError: If the file is missing or damaged, or lacks a variable of that shape.
    """
    import scipy.io

    head = read_bytes(path, _MAX_MAT_BYTES)[:128]
    try:
        headers = {name: shape for name, shape, _ in scipy.io.whosmat(str(path))}
    except NotImplementedError:
        reject(path, "is a MATLAB 7.3 file; only the MATLAB 5 format that the data set ships is read")
    except Exception as error:  # scipy raises whatever the broken bytes lead it to
        reject(path, f"is not a MATLAB file or truncated ({len(head)} header bytes): {error}")
    for name, shape in shapes.items():
        if name not in headers:
            reject(path, f"has no variable {name!r}; it has {', '.join(sorted(headers)) or 'none'}")
        actual = headers[name]
        if len(actual) != len(shape) or any(s is not None and s != g for s, g in zip(shape, actual, strict=True)):
            reject(path, f"{name!r} has shape {actual}, expected {_shape(shape)}")
        if np.prod([float(g) for g in actual]) * 8 > _MAX_MAT_BYTES:
            reject(path, f"{name!r} of shape {actual} is larger than any that was published")
    try:
        loaded = scipy.io.loadmat(str(path), variable_names=list(shapes))
        arrays = {name: np.asarray(loaded[name], np.float64) for name in shapes}
    except Exception as error:
        reject(path, f"is truncated or broken: {error}")
    for name, array in arrays.items():
        if array.shape != tuple(headers[name]):
            reject(path, f"{name!r} is not the array its header announces")
    return arrays


def _shape(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("N" if s is None else str(s) for s in shape) + ")"


def decode_image(path: Path, mode: Literal["RGB", "L", "I;16"], size: tuple[int, int] | None = None) -> Array:
    """Read an image file.

    Args:
        path: the file.
        mode: Pillow's name for the wanted pixels: ``RGB``, ``L`` (grey, masks) or ``I;16`` (16 bits, depth).
        size: the (width, height) that the data set promises.

    Returns:
        uint8 ``(H, W, 3)`` for ``RGB``, uint8 ``(H, W)`` for ``L``, float32 ``(H, W)`` for ``I;16``.

    Raises:
        DataError: If the file is missing, damaged, of another size or has no 16-bit pixels.
    """
    from PIL import Image

    if not path.is_file():
        reject(path, "is missing" if not path.exists() else "is not a file")
    try:
        with _open(path) as image:
            # The size comes from the header: an image that is refused here is never decoded.
            if size is not None and image.size != size:
                reject(path, f"is {image.size[0]}x{image.size[1]} px, expected {size[0]}x{size[1]}")
            if image.size[0] * image.size[1] > _MAX_PIXELS:
                reject(path, f"is {image.size[0]}x{image.size[1]} px: too large for an image of a hand")
            pixels = np.asarray(image if mode in ("I;16", image.mode) else image.convert(mode)).copy()
    except DataError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        MemoryError,  # a chunk whose header says it is gigabytes long
        struct.error,
        zlib.error,
    ) as error:
        reject(path, f"cannot be decoded, truncated or not an image: {error}")
    except Image.DecompressionBombError as error:
        reject(path, str(error))
    if mode == "I;16" and (pixels.ndim != 2 or pixels.dtype == np.uint8):
        reject(path, "is not an image with one 16-bit channel")
    return pixels.astype(np.float32) if mode == "I;16" else pixels


def _open(path: Path) -> Any:
    """An image of which only the header is read; the caller, not a warning of Pillow, refuses very large ones."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=_IMAGE_FORMATS)
