"""The detector interface with simple detectors, and both MediaPipe APIs with fake modules."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvhpe.errors import UserError
from cvhpe.inference.hand_detector import (
    MODEL_VARIABLE,
    Detection,
    box_around,
    crop_square,
    detect_hands,
    detect_in_box,
    mediapipe_detector,
)

MARKS = [SimpleNamespace(x=0.25 + 0.01 * j, y=0.5) for j in range(21)]


class Bright:
    """Detects the one bright square of an image, if it covers at least 1/20 of the image's side."""

    name = "bright"

    def __init__(self):
        self.shapes = []

    def __call__(self, image):
        self.shapes.append(image.shape[:2])
        rows, columns = (np.flatnonzero(image[..., 0].max(k) > 100) for k in (1, 0))
        if not len(rows) or len(rows) < max(image.shape[:2]) / 20:
            return []
        x, y = float(columns[0]), float(rows[0])
        joints = np.linspace((x, y), (x + len(columns), y + len(rows)), 21)
        return [Detection(box=box_around(joints), side=1, confidence=0.9, joints2d_px=joints)]


def image_with_square(x, y, size, shape=(300, 400)):
    out = np.zeros((*shape, 3), np.uint8)
    out[y : y + size, x : x + size] = 255
    return out


@pytest.fixture
def no_mediapipe(monkeypatch):
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "mediapipe", None)


def test_without_mediapipe_one_line_says_what_to_install(no_mediapipe):
    with pytest.raises(UserError, match=r"hand detection needs MediaPipe: pip install .cvhpe\[detect\].") as error:
        mediapipe_detector()
    assert "\n" not in str(error.value)


def fake_mediapipe(monkeypatch, **parts):
    package = ModuleType("mediapipe")
    package.__version__ = "0.0.test"
    for name, part in parts.items():
        setattr(package, name, part)
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    return package


def test_a_mediapipe_without_models_asks_for_the_file(monkeypatch, tmp_path):
    fake_mediapipe(monkeypatch)
    with pytest.raises(UserError, match=r"hand_landmarker\.task with --detector-model"):
        mediapipe_detector()
    with pytest.raises(UserError, match="no such hand_landmarker"):
        mediapipe_detector(tmp_path / "hand_landmarker.task")
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "named.task"))
    with pytest.raises(UserError, match=r"named\.task: no such"):
        mediapipe_detector()


def test_solutions_give_pixels_and_the_side_in_the_photo(monkeypatch):
    class Hands:
        def __init__(self, **options):
            assert options["static_image_mode"]
            assert options["max_num_hands"] == 3

        def process(self, image):
            side = SimpleNamespace(classification=[SimpleNamespace(label="Left", score=0.8)])
            return SimpleNamespace(multi_hand_landmarks=[SimpleNamespace(landmark=MARKS)], multi_handedness=[side])

    fake_mediapipe(monkeypatch, solutions=SimpleNamespace(hands=SimpleNamespace(Hands=Hands)))
    detector = mediapipe_detector(hands=3)
    assert "0.0.test" in detector.name
    (detection,) = detector(np.zeros((200, 400, 3), np.uint8))
    np.testing.assert_allclose(detection.joints2d_px[0], [0.25 * 400 - 0.5, 0.5 * 200 - 0.5])
    assert (detection.side, detection.confidence, detection.root) == (1, 0.8, "wrist")


def test_tasks_read_the_file_and_give_the_side_in_the_photo(monkeypatch, tmp_path):
    file = tmp_path / "hand_landmarker.task"
    file.write_bytes(b"model")

    class Landmarker:
        @staticmethod
        def create_from_options(options):
            if options.base_options.model_asset_buffer != b"model":
                raise RuntimeError("Unable to open zip archive.\nmore")
            return Landmarker()

        def detect(self, image):
            side = SimpleNamespace(category_name="Left", score=0.7)
            return SimpleNamespace(hand_landmarks=[MARKS], handedness=[[side]])

        def close(self):
            pass

    base = SimpleNamespace(BaseOptions=SimpleNamespace)
    vision = SimpleNamespace(HandLandmarker=Landmarker, HandLandmarkerOptions=SimpleNamespace)
    package = fake_mediapipe(monkeypatch, Image=SimpleNamespace, ImageFormat=SimpleNamespace(SRGB=1))
    monkeypatch.setitem(sys.modules, "mediapipe.tasks", ModuleType("mediapipe.tasks"))
    monkeypatch.setitem(sys.modules, "mediapipe.tasks.python", base)
    monkeypatch.setitem(sys.modules, "mediapipe.tasks.python.vision", vision)
    (detection,) = mediapipe_detector(file)(np.zeros((200, 400, 3), np.uint8))
    assert (detection.side, detection.confidence) == (0, 0.7)
    np.testing.assert_allclose(detection.joints2d_px[2], [0.27 * 400 - 0.5, 99.5])
    assert package.__version__ in mediapipe_detector(file).name
    file.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"cannot use it as a hand_landmarker.task: Unable to open zip archive\.$"):
        mediapipe_detector(file)


def test_a_small_hand_is_detected_in_a_tile():
    detector = Bright()
    (detection,) = detect_hands(detector, image_with_square(310, 40, 16))
    np.testing.assert_allclose(detection.box[:2], (310, 40))
    assert len(detector.shapes) > 1
    detector = Bright()
    assert len(detect_hands(detector, image_with_square(100, 100, 80), max_hands=1)) == 1
    assert len(detector.shapes) == 1


def test_a_hand_in_several_tiles_is_one_hand():
    detector = Bright()
    (detection,) = detect_hands(detector, image_with_square(180, 130, 60))
    assert len(detector.shapes) > 1
    np.testing.assert_allclose(detection.box, (180, 130, 60, 60))


def test_hands_of_tiles_are_added_to_those_of_the_image():
    class Greedy(Bright):
        """Detects the leftmost bright square only."""

        def __call__(self, image):
            columns = np.flatnonzero(image[..., 0].max(0) > 100)
            if len(columns):
                ends = [*np.flatnonzero(np.diff(columns) > 1), len(columns) - 1]
                image = image.copy()
                image[:, columns[ends[0]] + 1 :] = 0
            return super().__call__(image)

    image = image_with_square(30, 100, 40)
    image[150:190, 330:370] = 255
    detections = detect_hands(Greedy(), image)
    assert sorted(d.box[0] for d in detections) == [30, 330]
    assert len(detect_hands(Greedy(), image, max_hands=1)) == 1


def test_an_image_without_a_hand_has_no_detection():
    assert detect_hands(Bright(), np.zeros((120, 90, 3), np.uint8)) == []


def test_a_box_limits_the_search_to_its_surroundings():
    detector, image = Bright(), image_with_square(300, 200, 30)
    image[:50, :50] = 255  # another hand, outside
    detection = detect_in_box(detector, image, (295, 195, 40, 40))
    np.testing.assert_allclose(detection.box, (300, 200, 30, 30))
    assert detector.shapes == [(64, 64)]
    assert detect_in_box(detector, np.zeros((50, 50, 3), np.uint8), (60, 60, 10, 10)) is None


@given(st.integers(-40, 40), st.integers(-40, 40), st.integers(1, 60))
def test_a_square_crop_is_the_padded_image(left, top, size):
    image = np.random.default_rng(0).integers(1, 255, (20, 30, 3), np.uint8)
    out = crop_square(image, left, top, size)
    padded = np.pad(image, ((100, 100), (100, 100), (0, 0)))
    np.testing.assert_array_equal(out, padded[100 + top : 100 + top + size, 100 + left : 100 + left + size])


def test_mediapipe_detects_the_hand_in_a_photo(shared_data):
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed (extra 'detect')")
    from cvhpe.io.image import read_image

    (photo,) = (shared_data / "photos").glob("call_0413*.jpg")
    (detection,) = detect_hands(mediapipe_detector(), read_image(photo))
    assert detection.side == 0
    assert 150 < detection.box[0] < 400
