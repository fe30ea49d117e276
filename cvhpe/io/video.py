"""Read and write videos with OpenCV, frames in RGB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.errors import DataError, UserError
from cvhpe.io.native_stderr import silence_stderr

Array = np.ndarray

_DEFAULT_RATE = 25.0  # if the file gives no usable number


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video: its number, its time in seconds, its image uint8 ``(H, W, 3)`` RGB; the video's rate."""

    number: int
    seconds: float
    image: Array
    rate: float


def read_frames(path: Path, stride: int = 1) -> Iterator[VideoFrame]:
    """Read the frames of a video.

    Args:
        path: the video file.
        stride: give every ``stride``-th frame.

    Yields:
        The frames, from number 0.

    Raises:
        DataError: If OpenCV cannot read the file.
        UserError: If OpenCV is not installed; the extra ``detect`` brings it.
    """
    cv2 = _opencv(path)
    with silence_stderr():
        video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise DataError(f"{path}: not a video that OpenCV can read")
        rate = float(video.get(cv2.CAP_PROP_FPS))
        rate = rate if 0 < rate < 1000 else _DEFAULT_RATE
        number = 0
        while True:
            success, image = video.read()
            if not success:
                break
            if number % stride == 0:
                yield VideoFrame(number, number / rate, np.ascontiguousarray(image[..., ::-1]), rate)
            number += 1
        if not number:
            raise DataError(f"{path}: a video without a frame that can be read")
    finally:
        video.release()


class VideoWriter:
    """Writes images of one size to an MP4 file, which is finished at the end of the ``with`` block.

    Args:
        path: the file.
        rate: frames a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._cv2 = _opencv(path)
        self._file: Any = None

    def write(self, image: Array) -> None:
        """Append a frame.

        Args:
            image: uint8 ``(H, W, 3)``, RGB.

        Raises:
            UserError: If OpenCV cannot write the file.
        """
        height, width = image.shape[:2]
        if self._file is None:
            code = self._cv2.VideoWriter_fourcc(*"mp4v")
            self._file = self._cv2.VideoWriter(str(self.path), code, self.rate, (width, height))
            if not self._file.isOpened():
                raise UserError(f"{self.path}: OpenCV cannot write this video; is the folder writable?")
        self._file.write(np.ascontiguousarray(image[..., ::-1]))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.release()


def _opencv(path: Path) -> Any:
    try:
        import cv2
    except ImportError:
        raise UserError(f"{path}: videos need OpenCV: pip install 'cvhpe[detect]'") from None
    return cv2
