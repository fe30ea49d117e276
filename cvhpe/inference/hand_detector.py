"""Finding the hands of a photograph: one small interface, and MediaPipe behind it where it is installed.

A detector is anything that is called with a picture and answers with :class:`Detection` hands; whoever has a
better one passes it to :meth:`cvhpe.api.HandModel.predict`. MediaPipe comes in two kinds: wheels of the 0.10
series carry their models (``mediapipe.solutions``), later ones carry none and need a ``hand_landmarker.task``
file that the user names (``mediapipe.tasks``).
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
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
"""Environment variable that names a ``hand_landmarker.task`` where no option does."""

MOST_HANDS = 4
LEAST_CONFIDENCE = 0.5

_INSTALL = "pip install 'cvhpe[detect]'"


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One hand in a picture.

    box: x, y, width, height in pixels, from pixel edge to pixel edge.
    side: 0 left, 1 right, None where nobody knows.
    confidence: of the hand side as the detector gives it, 0 to 1; None where it was not detected.
    joints2d_px: ``(J, 2)`` in ``layout``, centre of the top-left pixel (0, 0), or None.
    root: what the root joint of ``joints2d_px`` is, ``"wrist"`` or ``"palm"``.
    """

    box: Box
    side: int | None = None
    confidence: float | None = None
    joints2d_px: Array | None = None
    layout: str = "coco21"
    root: str = "wrist"

    def moved(self, x: float, y: float) -> Detection:
        """The same hand in a picture whose pixel (0, 0) was this one's (-x, -y)."""
        joints = None if self.joints2d_px is None else self.joints2d_px + np.array([x, y])
        box = (self.box[0] + x, self.box[1] + y, *self.box[2:])
        return Detection(
            box=box,
            side=self.side,
            confidence=self.confidence,
            joints2d_px=joints,
            layout=self.layout,
            root=self.root,
        )


class Detector(Protocol):
    """What finds hands: called with a picture uint8 ``(H, W, 3)``, RGB; ``name`` goes into the results."""

    name: str

    def __call__(self, picture: Array) -> list[Detection]: ...


def box_around(joints2d_px: Array) -> Box:
    """The box x, y, width, height of joints ``(J, 2)``; NaN joints do not count.

    >>> box_around(np.array([[10.0, 20.0], [30.0, 24.0], [np.nan, 0.0]]))
    (10.0, 20.0, 20.0, 4.0)
    """
    known = joints2d_px[np.isfinite(joints2d_px).all(-1)]
    low, high = known.min(0), known.max(0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def landmarks_px(landmarks: Any, width: int, height: int) -> Array:
    """MediaPipe's landmarks (``.x``, ``.y`` as shares of the picture, from edge to edge) in pixels ``(21, 2)``.

    >>> from types import SimpleNamespace
    >>> landmarks_px([SimpleNamespace(x=0.5, y=0.5)], 320, 240)
    array([[159.5, 119.5]])
    """
    shares = np.array([[mark.x, mark.y] for mark in landmarks], np.float64)
    return shares * (width, height) - 0.5


def mediapipe_detector(model: Path | None = None, hands: int = MOST_HANDS) -> Detector:
    """MediaPipe as it is installed here. ``model``: a ``hand_landmarker.task``, or None for packaged models.

    Raises :class:`UserError` in one line where MediaPipe or its model is missing.
    """
    named = model or (Path(os.environ[MODEL_VARIABLE]) if os.environ.get(MODEL_VARIABLE) else None)
    if named is not None and not named.is_file():
        raise UserError(f"{named}: no such hand_landmarker.task")
    with silence_stderr():
        try:
            package = import_module("mediapipe")
        except ImportError as error:
            if getattr(error, "name", None) not in (None, "mediapipe"):
                raise UserError(f"MediaPipe is installed but does not load: {error}; {_INSTALL}") from None
            raise UserError(f"finding hands needs MediaPipe: {_INSTALL}") from None
        if named is not None:
            return Tasks(package, named, hands)
        if hasattr(package, "solutions"):
            return Solutions(package, hands)
    version = getattr(package, "__version__", "of this version")
    raise UserError(
        f"MediaPipe {version} carries no models: name a hand_landmarker.task with --detector-model "
        f"(or {MODEL_VARIABLE}), or pip install 'mediapipe==0.10.21'"
    )


class Solutions:
    """``mediapipe.solutions.hands`` of the 0.10 series, with the models in its wheel."""

    def __init__(self, package: Any, hands: int) -> None:
        self.name = f"mediapipe {package.__version__} solutions"
        self._hands = package.solutions.hands.Hands(
            static_image_mode=True, max_num_hands=hands, min_detection_confidence=LEAST_CONFIDENCE
        )

    def __call__(self, picture: Array) -> list[Detection]:
        with silence_stderr():
            result = self._hands.process(np.ascontiguousarray(picture))
        height, width = picture.shape[:2]
        found = []
        for marks, sides in zip(result.multi_hand_landmarks or (), result.multi_handedness or (), strict=True):
            joints = landmarks_px(marks.landmark, width, height)
            best = sides.classification[0]
            # These models were trained on mirrored pictures: what they call Left is a right hand in a photograph.
            side = RIGHT if best.label == "Left" else LEFT
            found.append(Detection(box=box_around(joints), side=side, confidence=float(best.score), joints2d_px=joints))
        return found


class Tasks:
    """``mediapipe.tasks`` with a ``hand_landmarker.task`` file; unlike the solutions, it names a photograph's sides."""

    def __init__(self, package: Any, model: Path, hands: int) -> None:
        self.name = f"mediapipe {getattr(package, '__version__', '')} tasks, {model.name}"
        self._package = package
        vision = import_module("mediapipe.tasks.python.vision")
        base = import_module("mediapipe.tasks.python").BaseOptions
        options = vision.HandLandmarkerOptions(
            base_options=base(model_asset_buffer=model.read_bytes()),
            num_hands=hands,
            min_hand_detection_confidence=LEAST_CONFIDENCE,
        )
        try:
            self._landmarker = vision.HandLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{model}: MediaPipe cannot use it as a hand_landmarker.task: {first}") from None
        atexit.register(self._landmarker.close)  # left to the interpreter's end, it complains

    def __call__(self, picture: Array) -> list[Detection]:
        image = self._package.Image(
            image_format=self._package.ImageFormat.SRGB, data=np.ascontiguousarray(picture, np.uint8)
        )
        with silence_stderr():
            result = self._landmarker.detect(image)
        height, width = picture.shape[:2]
        found = []
        for marks, sides in zip(result.hand_landmarks, result.handedness, strict=True):
            joints = landmarks_px(marks, width, height)
            best = sides[0]
            side = RIGHT if best.category_name == "Right" else LEFT
            found.append(Detection(box=box_around(joints), side=side, confidence=float(best.score), joints2d_px=joints))
        return found


def search(detector: Detector, picture: Array, most: int = MOST_HANDS) -> list[Detection]:
    """The hands of a picture: of the whole, then of its parts, until ``most`` are found.

    Detectors look at a shrunk picture, in which the hand of a person seen from head to foot is a few pixels. So they
    are shown overlapping squares of half the picture's longer side as well. Where that gives nothing they are shown
    squares of a third, and the picture with black around it, for hands that fill it. A hand that two parts show is
    counted once, as the larger part showed it.
    """
    found = detector(picture)
    for share in (1 / 2, 1 / 3, 1.5):
        if len(found) >= most or (found and share != 1 / 2):
            break
        found = together(found, parts(detector, picture, share))
    return found[:most]


def parts(detector: Detector, picture: Array, share: float) -> list[Detection]:
    """What a detector finds in overlapping squares of ``share`` of the longer side that cover a picture."""
    height, width = picture.shape[:2]
    size = max(round(max(height, width) * share), 1)
    found: list[Detection] = []
    for top in _starts(height, size):
        for left in _starts(width, size):
            seen = [one.moved(left, top) for one in detector(window(picture, left, top, size))]
            found = together(found, seen)
    return found


def together(first: list[Detection], then: list[Detection]) -> list[Detection]:
    """The hands of ``first``, and those of ``then`` whose middle lies in none of their boxes, and theirs in none."""
    out = list(first)
    for one in then:
        if not any(_covers(one.box, other.box) or _covers(other.box, one.box) for other in out):
            out.append(one)
    return out


def _covers(a: Box, b: Box) -> bool:
    x, y = b[0] + b[2] / 2, b[1] + b[3] / 2
    return a[0] <= x <= a[0] + a[2] and a[1] <= y <= a[1] + a[3]


def _starts(length: int, size: int) -> list[int]:
    """Where windows of ``size`` begin that overlap by half or more and cover ``length``.

    >>> _starts(480, 320), _starts(100, 320)
    ([0, 160], [-110])
    """
    if length <= size:
        return [(length - size) // 2]
    count = -(-2 * (length - size) // size) + 1
    return [round(k * (length - size) / (count - 1)) for k in range(count)]


def detect_in_box(detector: Detector, picture: Array, box: Box, rescale_samples: float = 1.6) -> Detection | None:
    """The hand that a detector finds about a box of a picture, in the picture's pixels; None where there is none.

    The detector looks at the box widened ``rescale_samples`` times, as it expects to see more than the hand. Of several
    hands the one whose middle is nearest the box's.
    """
    x, y, width, height = box
    size = max(round(rescale_samples * max(width, height)), 1)
    left, top = round(x + width / 2 - size / 2), round(y + height / 2 - size / 2)
    found = [one.moved(left, top) for one in detector(window(picture, left, top, size))]
    return min(found, key=lambda one: _apart(one.box, box), default=None)


def window(picture: Array, left: int, top: int, size: int) -> Array:
    """The square ``(size, size, 3)`` of a picture from pixel (left, top) on, black beyond the picture.

    >>> window(np.full((2, 3, 3), 7, np.uint8), 2, -1, 2)[..., 0]
    array([[0, 0],
           [7, 0]], dtype=uint8)
    """
    out = np.zeros((size, size, 3), np.uint8)
    height, width = picture.shape[:2]
    y0, y1 = (min(max(v, 0), height) for v in (top, top + size))
    x0, x1 = (min(max(v, 0), width) for v in (left, left + size))
    out[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    return out


def _apart(a: Box, b: Box) -> float:
    return float(np.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2))
