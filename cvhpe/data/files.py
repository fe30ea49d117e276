"""Read the files of a data set, however broken, hostile or absent: what is wrong becomes one line.

Nothing here allocates more than the file's size or the sizes its data set is known to have allow.
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
from typing import Any, NoReturn

import numpy as np

from cvhpe.errors import DataError, nearest

Array = np.ndarray

_MAX_TEXT = 4 << 30
_MAX_PIXELS = 1 << 26
_MAX_MAT = 4 << 30
MOST_NUMBER = np.float64(1e12)
"""No millimetre, pixel or focal length is anywhere near; its square and cube still fit single precision."""
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")


def fail(path: Path | str, what: str) -> NoReturn:
    """Raise the one line ``path: what``, whatever line breaks and lengths the reason has."""
    raise DataError(f"{path}: {' '.join(str(what).split())[:300]}")


def sensible(values: Array) -> Array:
    """Which numbers are finite and no larger than any that was ever measured: bool, the shape of ``values``.

    >>> sensible(np.array([0.5, -3e4, 1e300, np.nan, -np.inf])).tolist()
    [True, True, False, False, False]
    """
    return np.abs(values) <= MOST_NUMBER


def need_sensible(path: Path | str, what: str, values: Array) -> None:
    """Refuse labels with a number that is none: what broken bytes make of one is as often 1e300 as NaN."""
    odd = ~sensible(values)
    if odd.any():
        value = values[odd].flat[0]
        fail(path, f"{what} holds {'a number beyond reason' if np.isfinite(value) else 'a number that is not finite'}")


def with_options(path: Path | None, name: str, known: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    """Take ``PATH?key=value&key=value`` apart; ``known`` gives the keys and their defaults.

    >>> with_options(Path("/data/msra?subject=3"), "msra", {"subject": "0"})[1]
    {'subject': '3'}
    >>> with_options(None, "msra", {})
    Traceback (most recent call last):
    cvhpe.errors.DataError: data set 'msra' needs its folder: --data msra:PATH
    """
    if path is None:
        raise DataError(f"data set {name!r} needs its folder: --data {name}:PATH")
    text = str(path)
    if "?" not in text or Path(path).exists():
        return Path(path), dict(known)
    where, _, query = text.rpartition("?")
    options = dict(known)
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if key not in known or not equals:
            have = nearest(key, known) if known else "it has none"
            raise DataError(f"data set {name!r} has no option {part!r} in {text}; {have}")
        options[key] = value
    return Path(where), options


def folder(path: Path, name: str) -> Path:
    """The folder of a data set, which must exist and be unpacked."""
    if path.is_dir():
        return path
    if not path.exists():
        fail(path, f"no such folder; give the folder of {name} as it was unpacked")
    refuse_archive(path, name)
    fail(path, f"is a file; data set {name!r} needs the folder it was unpacked to")


def refuse_archive(path: Path, name: str) -> None:
    """Say of a packed archive that it is to be unpacked."""
    if zipfile.is_zipfile(path) or path.name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")):
        fail(path, f"is a packed archive; unpack it and give the folder: --data {name}:FOLDER")


def need(root: Path, names: Iterable[str]) -> None:
    """Refuse a folder that lacks files; names the first few of them."""
    lacking = [n for n in names if not (root / n).exists()]
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        fail(root, f"lacks {', '.join(lacking[:3])}{more}")


def read_bytes(path: Path, most: int = _MAX_TEXT) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes."""
    try:
        # A device or a pipe would never end.
        if path.exists() and not path.is_file():
            fail(path, "is not a file")
        if (size := path.stat().st_size) > most:
            fail(path, f"has {size} bytes; at most {most} were expected")
        return path.read_bytes()
    except FileNotFoundError:
        fail(path, "is missing")
    except OSError as error:
        fail(path, f"cannot be read: {error.strerror or error}")


def read_text(path: Path) -> str:
    """An UTF-8 text file."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fail(path, f"is not text: byte {error.start} is not UTF-8")


def read_numbers(path: Path, line: str, number: int, count: int) -> Array:
    """``count`` finite numbers of one line of a text file; ``number`` counts lines from 1, for the message."""
    words = line.split()
    if len(words) != count:
        fail(path, f"line {number} has {len(words)} numbers, expected {count}")
    try:
        values = np.array(words, np.float64)
    except ValueError:
        fail(path, f"line {number} holds something that is no number")
    need_sensible(path, f"line {number}", values)
    return values


def read_table(path: Path, lines: Sequence[tuple[int, str]], count: int) -> Array:
    """``(len(lines), count)`` finite numbers of lines of a text file, each with its number for the message.

    One pass in C where all is well (ICVL's list has 16 million numbers); where it is not, line by line until
    the one that is wrong.
    """
    if all(len(line.split()) == count for _, line in lines):
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's word for text that is no number
            with suppress(DeprecationWarning, ValueError):
                values = np.fromstring(" ".join(line for _, line in lines), np.float64, sep=" ")
                if values.size == len(lines) * count and sensible(values).all():
                    return values.reshape(-1, count)
    rows = [read_numbers(path, line, number, count) for number, line in lines]
    return np.array(rows, np.float64).reshape(-1, count)


def read_json(path: Path) -> Any:
    """A JSON file."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        fail(path, f"is not JSON or truncated: {error}")


def read_mat(path: Path, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, Array]:
    """Variables of a MATLAB 5 file by name, as float64; None in a shape stands for any length.

    The shapes are checked in the headers, before anything is decompressed.
    """
    import scipy.io

    head = read_bytes(path, _MAX_MAT)[:128]
    try:
        found = {name: shape for name, shape, _ in scipy.io.whosmat(str(path))}
    except NotImplementedError:
        fail(path, "is a MATLAB 7.3 file; only the MATLAB 5 format that the data set ships is read")
    except Exception as error:  # scipy raises whatever the broken bytes lead it to
        fail(path, f"is not a MATLAB file or truncated ({len(head)} header bytes): {error}")
    for name, shape in shapes.items():
        if name not in found:
            fail(path, f"has no variable {name!r}; it has {', '.join(sorted(found)) or 'none'}")
        got = found[name]
        if len(got) != len(shape) or any(s is not None and s != g for s, g in zip(shape, got, strict=True)):
            fail(path, f"{name!r} has shape {got}, expected {_shape(shape)}")
        if np.prod([float(g) for g in got]) * 8 > _MAX_MAT:
            fail(path, f"{name!r} of shape {got} is larger than any that was published")
    try:
        loaded = scipy.io.loadmat(str(path), variable_names=list(shapes))
        arrays = {name: np.asarray(loaded[name], np.float64) for name in shapes}
    except Exception as error:
        fail(path, f"is truncated or broken: {error}")
    for name, got_array in arrays.items():
        if got_array.shape != tuple(found[name]):
            fail(path, f"{name!r} is not the array its header announces")
    return arrays


def _shape(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("N" if s is None else str(s) for s in shape) + ")"


def read_rgb(path: Path, size: tuple[int, int] | None = None) -> Array:
    """A colour picture as uint8 (H, W, 3); ``size`` is the (width, height) its data set promises."""
    return _decode(path, size, "RGB")


def read_grey(path: Path, size: tuple[int, int] | None = None) -> Array:
    """A mask or grey picture as uint8 (H, W)."""
    return _decode(path, size, "L")


def read_depth16(path: Path, size: tuple[int, int] | None = None) -> Array:
    """A picture with one 16-bit channel as float32 (H, W)."""
    raw = _decode(path, size, None)
    if raw.ndim != 2 or raw.dtype == np.uint8:
        fail(path, "is not a picture with one 16-bit channel")
    return raw.astype(np.float32)


def _decode(path: Path, size: tuple[int, int] | None, mode: str | None) -> Array:
    from PIL import Image

    if not path.is_file():
        fail(path, "is missing" if not path.exists() else "is not a file")
    try:
        with _opened(path) as image:
            # The size is in the header: what is refused here was never decoded.
            if size is not None and image.size != size:
                fail(path, f"is {image.size[0]}x{image.size[1]} px, expected {size[0]}x{size[1]}")
            if image.size[0] * image.size[1] > _MAX_PIXELS:
                fail(path, f"is {image.size[0]}x{image.size[1]} px: too large for a picture of a hand")
            return np.asarray(image.convert(mode) if mode and image.mode != mode else image).copy()
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
        MemoryError,  # a chunk that says it is gigabytes long, where so much is not to be had
        struct.error,
        zlib.error,
    ) as error:
        fail(path, f"cannot be decoded, truncated or not a picture: {error}")
    except Image.DecompressionBombError as error:
        fail(path, str(error))


def _opened(path: Path) -> Any:
    """A picture whose header was read. Pillow would warn of one that is very large; whoever opened it refuses it."""
    from PIL import Image as images

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", images.DecompressionBombWarning)
        return images.open(path, formats=_FORMATS)
