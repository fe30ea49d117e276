"""Reading one image file, and putting it off until somebody looks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cvhpe.errors import DataError

Array = np.ndarray


def read_image(path: Path, mode: str | None = None) -> Array:
    """Pixels of an image file: ``(H, W)`` or ``(H, W, C)``, converted to a Pillow ``mode`` where one is given.

    Without a mode the file's own values come, so 16-bit depth stays uint16. Raises ``DataError`` naming
    the file where it is missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image if mode is None or image.mode == mode else image.convert(mode))
    except FileNotFoundError:
        raise DataError(f"{path}: missing; unpack the data set again, or check its path") from None
    # Pillow and zlib report damage in all of these
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).replace(repr(str(path)), "").split())[:100]
        raise DataError(f"{path}: damaged or no image ({reason}); unpack the data set again") from None


class LazyImages(Mapping[str, Array]):
    """Images of a sample that are read when they are asked for: joints alone need no decoding.

    >>> images = LazyImages({"mask": lambda: np.zeros((2, 2), np.uint8)})
    >>> "rgb" in images, images["mask"].shape
    (False, (2, 2))
    """

    def __init__(self, readers: Mapping[str, Callable[[], Array]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, name: str) -> Array:
        return self._readers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._readers  # Mapping's own would read the image

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)
