"""LossSummary and writing videos with OpenCV, frames in RGB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.errors import DataError, UserError
from cvhpe.io.native_stderr import quiet

Array = np.ndarray


@dataclass(frozen=True)
class Frame:
    """One frame of a video: its number, its time in seconds, its picture uint8 ``(H, W, 3)`` RGB."""

    number: int
    seconds: float
    picture: Array


def frames(path: Path, every: int = 1) -> Iterator[Frame]:
    """Every ``every``-th frame of a video. Needs OpenCV, which comes with the extra ``detect``."""
    cv2 = opencv(path)
    with quiet():
        video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise DataError(f"{path}: not a video that OpenCV can read")
        rate = rate_of(video, cv2)
        number = 0
        while True:
            there, picture = video.read()
            if not there:
                break
            if number % every == 0:
                yield Frame(number, number / rate, np.ascontiguousarray(picture[..., ::-1]))
            number += 1
        if not number:
            raise DataError(f"{path}: a video without a frame that can be read")
    finally:
        video.release()


def rate_of(video: Any, cv2: Any) -> float:
    """Frames a second, as the file says; 25 where it says nothing usable."""
    rate = float(video.get(cv2.CAP_PROP_FPS))
    return rate if 0 < rate < 1000 else 25.0


def frame_rate(path: Path) -> float:
    """Frames a second of a video file."""
    cv2 = opencv(path)
    video = cv2.VideoCapture(str(path))
    try:
        return rate_of(video, cv2)
    finally:
        video.release()


class VideoWriter:
    """Writes pictures of one size to an MP4 file; the first one fixes the size."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._cv2 = opencv(path)
        self._file: Any = None

    def write(self, picture: Array) -> None:
        """Append one uint8 ``(H, W, 3)`` RGB picture."""
        height, width = picture.shape[:2]
        if self._file is None:
            code = self._cv2.VideoWriter_fourcc(*"mp4v")
            self._file = self._cv2.VideoWriter(str(self.path), code, self.rate, (width, height))
            if not self._file.isOpened():
                raise UserError(f"{self.path}: OpenCV cannot write this video; is the folder writable?")
        self._file.write(np.ascontiguousarray(picture[..., ::-1]))

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.release()


@contextmanager
def writing_video(path: Path, rate: float) -> Iterator[VideoWriter]:
    """A video file that is finished however its making ends."""
    writer = VideoWriter(path, rate)
    try:
        yield writer
    finally:
        writer.close()


def opencv(path: Path) -> Any:
    """OpenCV, or what to install for it, in one line."""
    try:
        import cv2
    except ImportError:
        raise UserError(f"{path}: videos need OpenCV: pip install 'cvhpe[detect]'") from None
    return cv2
