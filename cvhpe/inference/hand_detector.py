"""Hand detection in images: the :class:`Detector` interface, and MediaPipe as the default detector.

A detector is any callable that takes an image and returns :class:`Detection` objects; pass your own to
:func:`cvhpe.load`. MediaPipe has two APIs: wheels of the 0.10 series include their models (``mediapipe.solutions``),
later ones need a ``hand_landmarker.task`` file (``mediapipe.tasks``).
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cvhpe.errors import UserError
from cvhpe.geometry.skeleton import LEFT, RIGHT
from cvhpe.io.native_stderr import silence_stderr

Array = np.ndarray
Box = tuple[float, float, float, float]

MODEL_VARIABLE = "CVHPE_HAND_LANDMARKER"
"""Environment variable with the path of a ``hand_landmarker.task``, used without the option."""

MAX_HANDS = 4
MIN_CONFIDENCE = 0.5

_INSTALL = "pip install 'cvhpe[detect]'"


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One hand in an image.

    Attributes:
        box: x, y, width, height in pixels, from pixel edge to pixel edge.
        side: 0 left, 1 right, None unknown.
        confidence: Of the hand side, as given by the detector, 0 to 1; None if it was not detected.
        joints2d_px: ``(J, 2)`` in ``layout``, centre of the top-left pixel (0, 0), or None.
        layout: Joint layout of ``joints2d_px``.
        root: Position of the root joint of ``joints2d_px``, ``"wrist"`` or ``"palm"``.
    """

    box: Box
    side: int | None = None
    confidence: float | None = None
    joints2d_px: Array | None = None
    layout: str = "coco21"
    root: str = "wrist"

    def shift(self, x: float, y: float) -> Detection:
        """Translate box and joints.

        Args:
            x: Pixels to the right.
            y: Pixels down.

        Returns:
            The translated detection.
        """
        joints = None if self.joints2d_px is None else self.joints2d_px + np.array([x, y])
        return replace(self, box=(self.box[0] + x, self.box[1] + y, *self.box[2:]), joints2d_px=joints)


class Detector(Protocol):
    """Interface of a detector: called with an RGB image, uint8 ``(H, W, 3)``; ``name`` is written to the results."""

    name: str

    def __call__(self, image: Array) -> list[Detection]: ...


def box_around(joints2d_px: Array) -> Box:
    """Return the bounding box x, y, width, height of joints ``(J, 2)``; NaN joints are ignored.

    Example:
        >>> box_around(np.array([[10.0, 20.0], [30.0, 24.0], [np.nan, 0.0]]))
        (10.0, 20.0, 20.0, 4.0)
    """
    known = joints2d_px[np.isfinite(joints2d_px).all(-1)]
    low, high = known.min(0), known.max(0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def landmarks_px(landmarks: Any, width: int, height: int) -> Array:
    """Convert MediaPipe's landmarks to pixels.

    Args:
        landmarks: ``.x`` and ``.y`` are fractions of the image, from edge to edge.
        width: Of the image, pixels.
        height: Of the image, pixels.

    Returns:
        ``(21, 2)``, centre of the top-left pixel (0, 0).

    Example:
        >>> from types import SimpleNamespace
        >>> landmarks_px([SimpleNamespace(x=0.5, y=0.5)], 320, 240)
        array([[159.5, 119.5]])
    """
    fractions = np.array([[mark.x, mark.y] for mark in landmarks], np.float64)
    return fractions * (width, height) - 0.5


def mediapipe_detector(model: Path | None = None, hands: int = MAX_HANDS) -> Detector:
    """Return the installed MediaPipe detector.

    Args:
        model: A ``hand_landmarker.task``; None uses ``CVHPE_HAND_LANDMARKER`` or the models of the wheel.
        hands: Maximum number of hands.

    Returns:
        The detector.

    Raises:
        UserError: If MediaPipe or its model is missing.
    """
    path = model or (Path(os.environ[MODEL_VARIABLE]) if os.environ.get(MODEL_VARIABLE) else None)
    if path is not None and not path.is_file():
        raise UserError(f"{path}: no such hand_landmarker.task")
    with silence_stderr():
        try:
            package = import_module("mediapipe")
        except ImportError as error:
            if getattr(error, "name", None) not in (None, "mediapipe"):
                raise UserError(f"MediaPipe is installed but does not load: {error}; {_INSTALL}") from None
            raise UserError(f"hand detection needs MediaPipe: {_INSTALL}") from None
        if path is not None:
            return MediaPipeTasks(package, path, hands)
        if hasattr(package, "solutions"):
            return MediaPipeSolutions(package, hands)
    version = getattr(package, "__version__", "of this version")
    raise UserError(
        f"MediaPipe {version} includes no models: name a hand_landmarker.task with --detector-model "
        f"(or {MODEL_VARIABLE}), or pip install 'mediapipe==0.10.21'"
    )


class MediaPipeSolutions:
    """``mediapipe.solutions.hands`` of the 0.10 series, whose wheel includes the models."""

    def __init__(self, package: Any, hands: int) -> None:
        self.name = f"mediapipe {package.__version__} solutions"
        self._hands = package.solutions.hands.Hands(
            static_image_mode=True, max_num_hands=hands, min_detection_confidence=MIN_CONFIDENCE
        )

    def __call__(self, image: Array) -> list[Detection]:
        with silence_stderr():
            result = self._hands.process(np.ascontiguousarray(image))
        height, width = image.shape[:2]
        detections = []
        for marks, sides in zip(result.multi_hand_landmarks or (), result.multi_handedness or (), strict=True):
            joints = landmarks_px(marks.landmark, width, height)
            best = sides.classification[0]
            # Trained on flipped images: the label Left is a right hand in an unflipped photo.
            side = RIGHT if best.label == "Left" else LEFT
            score = float(best.score)
            detections.append(Detection(box=box_around(joints), side=side, confidence=score, joints2d_px=joints))
        return detections


class MediaPipeTasks:
    """``mediapipe.tasks`` with a ``hand_landmarker.task`` file; its labels are those of unflipped photos."""

    def __init__(self, package: Any, model: Path, hands: int) -> None:
        self.name = f"mediapipe {getattr(package, '__version__', '')} tasks, {model.name}"
        self._package = package
        vision = import_module("mediapipe.tasks.python.vision")
        base = import_module("mediapipe.tasks.python").BaseOptions
        options = vision.HandLandmarkerOptions(
            base_options=base(model_asset_buffer=model.read_bytes()),
            num_hands=hands,
            min_hand_detection_confidence=MIN_CONFIDENCE,
        )
        try:
            self._landmarker = vision.HandLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{model}: MediaPipe cannot use it as a hand_landmarker.task: {reason}") from None
        atexit.register(self._landmarker.close)  # closing at interpreter exit prints an error

    def __call__(self, image: Array) -> list[Detection]:
        pixels = np.ascontiguousarray(image, np.uint8)
        with silence_stderr():
            result = self._landmarker.detect(
                self._package.Image(image_format=self._package.ImageFormat.SRGB, data=pixels)
            )
        height, width = image.shape[:2]
        detections = []
        for marks, sides in zip(result.hand_landmarks, result.handedness, strict=True):
            joints = landmarks_px(marks, width, height)
            best = sides[0]
            side = RIGHT if best.category_name == "Right" else LEFT
            score = float(best.score)
            detections.append(Detection(box=box_around(joints), side=side, confidence=score, joints2d_px=joints))
        return detections


def detect_hands(detector: Detector, image: Array, max_hands: int = MAX_HANDS) -> list[Detection]:
    """Detect hands in an image, then in overlapping tiles of it, until ``max_hands`` are detected.

    Detectors downscale their input, in which the hand of a standing person is a few pixels wide. Therefore square tiles
    of half the longer side are searched as well. If nothing is detected, tiles of a third follow, and the image with a
    black border, for hands that fill it. A hand in several tiles is returned once, from the largest tile.

    Args:
        detector: The detector.
        image: uint8 ``(H, W, 3)``, RGB.
        max_hands: Maximum number of detections.

    Returns:
        The detections, in pixels of the image.
    """
    detections = detector(image)
    for tile_fraction in (1 / 2, 1 / 3, 1.5):
        if len(detections) >= max_hands or (detections and tile_fraction != 1 / 2):
            break
        detections = _merge(detections, _detect_in_tiles(detector, image, tile_fraction))
    return detections[:max_hands]


def _detect_in_tiles(detector: Detector, image: Array, tile_fraction: float) -> list[Detection]:
    """Detections in overlapping square tiles whose side is a fraction of the image's longer side."""
    height, width = image.shape[:2]
    size = max(round(max(height, width) * tile_fraction), 1)
    detections: list[Detection] = []
    for top in _tile_starts(height, size):
        for left in _tile_starts(width, size):
            in_tile = [d.shift(left, top) for d in detector(crop_square(image, left, top, size))]
            detections = _merge(detections, in_tile)
    return detections


def _merge(first: list[Detection], second: list[Detection]) -> list[Detection]:
    """``first``, and the hands of ``second`` that overlap none: no box has the centre of the other inside."""
    merged = list(first)
    for detection in second:
        if not any(_covers(detection.box, d.box) or _covers(d.box, detection.box) for d in merged):
            merged.append(detection)
    return merged


def _covers(a: Box, b: Box) -> bool:
    """Whether box ``a`` has the centre of box ``b`` inside."""
    x, y = b[0] + b[2] / 2, b[1] + b[3] / 2
    return a[0] <= x <= a[0] + a[2] and a[1] <= y <= a[1] + a[3]


def _tile_starts(length: int, size: int) -> list[int]:
    """First pixels of tiles of ``size`` that overlap by half or more and cover ``length``.

    >>> _tile_starts(480, 320), _tile_starts(100, 320)
    ([0, 160], [-110])
    """
    if length <= size:
        return [(length - size) // 2]
    count = -(-2 * (length - size) // size) + 1
    return [round(k * (length - size) / (count - 1)) for k in range(count)]


def detect_in_box(detector: Detector, image: Array, box: Box, context: float = 1.6) -> Detection | None:
    """Detect the hand in a box of an image.

    Args:
        detector: The detector.
        image: uint8 ``(H, W, 3)``, RGB.
        box: x, y, width, height, pixels.
        context: Side of the square shown to the detector, in units of the longer side of the box; detectors expect
            more than the hand.

    Returns:
        The detection whose centre is nearest to the box's, in pixels of the image; None without a detection.
    """
    x, y, width, height = box
    size = max(round(context * max(width, height)), 1)
    left, top = round(x + width / 2 - size / 2), round(y + height / 2 - size / 2)
    detections = [d.shift(left, top) for d in detector(crop_square(image, left, top, size))]
    return min(detections, key=lambda d: _centre_distance(d.box, box), default=None)


def crop_square(image: Array, left: int, top: int, size: int) -> Array:
    """Crop a square, black outside the image.

    Args:
        image: uint8 ``(H, W, 3)``.
        left: First column, may be negative.
        top: First row, may be negative.
        size: Side, pixels.

    Returns:
        uint8 ``(size, size, 3)``.

    Example:
        >>> crop_square(np.full((2, 3, 3), 7, np.uint8), 2, -1, 2)[..., 0]
        array([[0, 0],
               [7, 0]], dtype=uint8)
    """
    out = np.zeros((size, size, 3), np.uint8)
    height, width = image.shape[:2]
    y0, y1 = (min(max(v, 0), height) for v in (top, top + size))
    x0, x1 = (min(max(v, 0), width) for v in (left, left + size))
    out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out


def _centre_distance(a: Box, b: Box) -> float:
    return float(np.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2))
