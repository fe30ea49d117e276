"""The detector interface with detectors of our own, and MediaPipe's two kinds with modules that stand in for it."""

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
    detect_in_box,
    mediapipe_detector,
    search,
    window,
)

MARKS = [SimpleNamespace(x=0.25 + 0.01 * j, y=0.5) for j in range(21)]


class Bright:
    """Finds the one bright square of a picture, if it covers at least 1/20 of the picture's side."""

    name = "bright"

    def __init__(self):
        self.looked = []

    def __call__(self, picture):
        self.looked.append(picture.shape[:2])
        rows, columns = (np.flatnonzero(picture[..., 0].max(k) > 100) for k in (1, 0))
        if not len(rows) or len(rows) < max(picture.shape[:2]) / 20:
            return []
        x, y = float(columns[0]), float(rows[0])
        joints = np.linspace((x, y), (x + len(columns), y + len(rows)), 21)
        return [Detection(box=box_around(joints), side=1, confidence=0.9, joints2d_px=joints)]


def picture(x, y, size, shape=(300, 400)):
    out = np.zeros((*shape, 3), np.uint8)
    out[y : y + size, x : x + size] = 255
    return out


@pytest.fixture
def no_mediapipe(monkeypatch):
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "mediapipe", None)


def test_without_mediapipe_one_line_says_what_to_install(no_mediapipe):
    with pytest.raises(UserError, match=r"finding hands needs MediaPipe: pip install .cvhpe\[detect\].") as error:
        mediapipe_detector()
    assert "\n" not in str(error.value)


def stand_in(monkeypatch, **parts):
    package = ModuleType("mediapipe")
    package.__version__ = "0.0.test"
    for name, part in parts.items():
        setattr(package, name, part)
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    return package


def test_a_mediapipe_without_models_asks_for_the_file(monkeypatch, tmp_path):
    stand_in(monkeypatch)
    with pytest.raises(UserError, match=r"hand_landmarker\.task with --detector-model"):
        mediapipe_detector()
    with pytest.raises(UserError, match="no such hand_landmarker"):
        mediapipe_detector(tmp_path / "hand_landmarker.task")
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "named.task"))
    with pytest.raises(UserError, match=r"named\.task: no such"):
        mediapipe_detector()


def test_solutions_give_pixels_and_the_side_that_a_photograph_shows(monkeypatch):
    class Hands:
        def __init__(self, **options):
            assert options["static_image_mode"]
            assert options["max_num_hands"] == 3

        def process(self, image):
            side = SimpleNamespace(classification=[SimpleNamespace(label="Left", score=0.8)])
            return SimpleNamespace(multi_hand_landmarks=[SimpleNamespace(landmark=MARKS)], multi_handedness=[side])

    stand_in(monkeypatch, solutions=SimpleNamespace(hands=SimpleNamespace(Hands=Hands)))
    detector = mediapipe_detector(hands=3)
    assert "0.0.test" in detector.name
    (found,) = detector(np.zeros((200, 400, 3), np.uint8))
    np.testing.assert_allclose(found.joints2d_px[0], [0.25 * 400 - 0.5, 0.5 * 200 - 0.5])
    assert (found.side, found.confidence, found.root) == (1, 0.8, "wrist")


def test_tasks_read_the_file_and_name_the_side_that_a_photograph_shows(monkeypatch, tmp_path):
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
    package = stand_in(monkeypatch, Image=SimpleNamespace, ImageFormat=SimpleNamespace(SRGB=1))
    monkeypatch.setitem(sys.modules, "mediapipe.tasks", ModuleType("mediapipe.tasks"))
    monkeypatch.setitem(sys.modules, "mediapipe.tasks.python", base)
    monkeypatch.setitem(sys.modules, "mediapipe.tasks.python.vision", vision)
    (found,) = mediapipe_detector(file)(np.zeros((200, 400, 3), np.uint8))
    assert (found.side, found.confidence) == (0, 0.7)
    np.testing.assert_allclose(found.joints2d_px[2], [0.27 * 400 - 0.5, 99.5])
    assert package.__version__ in mediapipe_detector(file).name
    file.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"cannot use it as a hand_landmarker.task: Unable to open zip archive\.$"):
        mediapipe_detector(file)


def test_a_small_hand_is_found_in_a_part_of_the_picture():
    detector = Bright()
    (found,) = search(detector, picture(310, 40, 16))
    np.testing.assert_allclose(found.box[:2], (310, 40))
    assert len(detector.looked) > 1
    detector = Bright()
    assert len(search(detector, picture(100, 100, 80), most=1)) == 1
    assert len(detector.looked) == 1


def test_a_hand_that_several_parts_show_is_one_hand():
    detector = Bright()
    (found,) = search(detector, picture(180, 130, 60))
    assert len(detector.looked) > 1
    np.testing.assert_allclose(found.box, (180, 130, 60, 60))


def test_hands_that_the_whole_picture_hides_are_found_beside_those_it_shows():
    class Greedy(Bright):
        """Sees the leftmost bright thing alone."""

        def __call__(self, picture):
            columns = np.flatnonzero(picture[..., 0].max(0) > 100)
            if len(columns):
                ends = [*np.flatnonzero(np.diff(columns) > 1), len(columns) - 1]
                picture = picture.copy()
                picture[:, columns[ends[0]] + 1 :] = 0
            return super().__call__(picture)

    shown = picture(30, 100, 40)
    shown[150:190, 330:370] = 255
    found = search(Greedy(), shown)
    assert sorted(one.box[0] for one in found) == [30, 330]
    assert len(search(Greedy(), shown, most=1)) == 1


def test_a_picture_without_a_hand_has_none():
    assert search(Bright(), np.zeros((120, 90, 3), np.uint8)) == []


def test_inside_a_box_only_its_surroundings_are_looked_at():
    detector, shown = Bright(), picture(300, 200, 30)
    shown[:50, :50] = 255  # another hand, outside
    found = detect_in_box(detector, shown, (295, 195, 40, 40))
    np.testing.assert_allclose(found.box, (300, 200, 30, 30))
    assert detector.looked == [(64, 64)]
    assert detect_in_box(detector, np.zeros((50, 50, 3), np.uint8), (60, 60, 10, 10)) is None


@given(st.integers(-40, 40), st.integers(-40, 40), st.integers(1, 60))
def test_a_window_is_the_picture_where_there_is_one(left, top, size):
    shown = np.random.default_rng(0).integers(1, 255, (20, 30, 3), np.uint8)
    out = window(shown, left, top, size)
    padded = np.pad(shown, ((100, 100), (100, 100), (0, 0)))
    np.testing.assert_array_equal(out, padded[100 + top : 100 + top + size, 100 + left : 100 + left + size])


def test_the_real_thing_if_it_is_here(shared_data):
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed (extra 'detect')")
    from cvhpe.io.image import read_image

    (photo,) = (shared_data / "photos").glob("call_0413*.jpg")
    (found,) = search(mediapipe_detector(), read_image(photo))
    assert found.side == 0
    assert 150 < found.box[0] < 400
