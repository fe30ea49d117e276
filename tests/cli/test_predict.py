"""``cvhpe predict`` and ``cvhpe export`` as a user meets them, with boxes instead of a detector."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.shell import cvhpe, fails
from helpers.untrained import untrained_run
from PIL import Image


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    untrained_run(folder / "rgb", "rgb:joints3d")
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    for name in ("one.jpg", "two.png"):
        Image.fromarray(pixels).save(folder / "photos" / name)
    return folder


def test_a_box_gives_joints_and_an_overlay_of_every_image(place):
    box = "40,20,60,70"
    done = cvhpe(
        "predict", "rgb", "photos", f"--bbox={box}", "--handedness=left", "--out=out", "--samples=6", cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 hand (left)") == 2
    for stem in ("one", "two"):
        record = json.loads((place / "out" / f"{stem}.json").read_text())
        assert record["size"] == [160, 120]
        assert (record["layout"], record["root"], record["detector"]) == ("hand21", "palm", None)
        assert len(record["joints"]) == 21
        assert record["units"]["joints3d_mm"].startswith("mm, relative to the root")
        (hand,) = record["hands"]
        assert (hand["hand"], hand["box"]) == ("left", [40.0, 20.0, 60.0, 70.0])
        assert np.shape(hand["joints3d_mm"]) == (21, 3)
        assert np.shape(hand["joints2d_px"]) == (21, 2)
        assert np.shape(hand["uncertainty_mm"]) == (21,)
        assert (hand["scale_mm"], hand["scale_from"]) == (30.0, "training mean")
        with Image.open(place / "out" / f"{stem}.png") as overlay:
            assert overlay.width > overlay.height == 500


def test_the_same_seed_gives_the_same_file(place):
    files = []
    for out in ("a", "b"):
        command = ("predict", "rgb", "photos/one.jpg", "--bbox=40,20,60,70", "--handedness=right", "--no-overlay")
        assert cvhpe(*command, f"--out={out}", cwd=place).returncode == 0
        files.append((place / out / "one.json").read_bytes())
        assert not (place / out / "one.png").exists()
    assert files[0] == files[1]


def test_a_broken_image_does_not_stop_the_others(place):
    folder = place / "mixed"
    folder.mkdir()
    good = (place / "photos" / "one.jpg").read_bytes()
    for name in ("a.jpg", "z.jpg"):
        (folder / name).write_bytes(good)
    (folder / "broken.jpg").write_bytes(good[:100])
    done = cvhpe("predict", "rgb", "mixed", "--bbox=40,20,60,70", "--handedness=left", "--out=some", cwd=place)
    assert done.returncode == 2
    said = done.stderr.splitlines()
    assert [line for line in said if line.startswith("skipped: ")] == [said[-2]]
    assert "mixed/broken.jpg: not an image that can be read" in said[-2]
    assert said[-1] == "error: 1 of 3 files could not be read; what could be read is in some"
    assert sorted(path.name for path in (place / "some").iterdir()) == ["a.json", "a.png", "z.json", "z.png"]


WRONG = {
    "no such file": (("rgb", "nothing.jpg"), "no such file or folder"),
    "no such run": (("nowhere", "photos"), "no such run"),
    "a box of three": (("rgb", "photos", "--bbox=1,2,3"), "--bbox 1,2,3: write it as x,y,width,height"),
    "an empty box": (("rgb", "photos", "--bbox=1,2,0,4", "--handedness=left"), "width and height above 0"),
    "a hand of no side": (("rgb", "photos", "--bbox=1,2,3,4", "--handedness=up"), "left or right"),
    "a box outside the image": (
        ("rgb", "photos", "--bbox=161,2,9,9", "--handedness=left"),
        "the image is 160 x 120 px",
    ),
    "a box like a town": (("rgb", "photos", "--bbox=0,0,1e300,9", "--handedness=left"), "the image is 160 x 120 px"),
    "a box like a mite": (("rgb", "photos", "--bbox=5,5,0.1,0.1", "--handedness=left"), "the image is 160 x 120 px"),
    "an endless bone": (("rgb", "photos", "--bbox=1,2,3,4", "--handedness=left", "--scale-mm=inf"), "--scale-mm inf"),
    "samples without end": (
        ("rgb", "photos", "--bbox=1,2,3,4", "--handedness=left", "--samples=99999999"),
        "0 to 10,000",
    ),
    "an input it lacks": (("rgb", "photos", "--from=joints2d"), "encodes no joints2d"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_predicted_is_one_line(place, case):
    arguments, says = WRONG[case]
    assert says in fails("predict", *arguments, "--out=bad", cwd=place)


def test_no_result_takes_the_place_of_what_was_given(place):
    folder = place / "own"
    folder.mkdir()
    before = (place / "photos" / "two.png").read_bytes()
    (folder / "hand.png").write_bytes(before)
    line = fails("predict", "rgb", "own", "--bbox=40,20,60,70", "--handedness=left", "--out=own", cwd=place)
    assert "hand.png would be overwritten" in line
    assert (folder / "hand.png").read_bytes() == before
    assert list(folder.iterdir()) == [folder / "hand.png"]


def test_the_model_that_ships_has_neither_data_nor_a_folder(place):
    for command in ("evaluate", "figures", "report"):
        assert "--data NAME:PATH" in fails(command, "default", cwd=place)
    for command in ("figures", "report"):
        assert "--out" in fails(command, "default", "--data=joints:hands.npz", cwd=place)


def test_without_a_detector_one_line_says_what_to_do(place):
    try:
        import mediapipe  # noqa: F401
    except ImportError:
        line = fails("predict", "default", "photos/one.jpg", "--out=bad", cwd=place)
        assert "pip install 'cvhpe[detect]'" in line
        assert "--bbox" not in line  # which cannot help a run of 2D joints
        assert "--bbox" in fails("predict", "rgb", "photos/one.jpg", "--out=bad", cwd=place)
    else:
        pytest.skip("MediaPipe is installed here")


def test_export_writes_what_it_checked(place):
    done = cvhpe("export", "default", "--from=joints2d", "--out=lifter.pt2", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "joints2d to joints3d, within" in done.stdout
    program = torch.export.load(place / "lifter.pt2").module()
    assert program(torch.rand(3, 21, 2) * 100, torch.tensor([0, 1, 1])).shape == (3, 21, 3)
    assert "did you mean" in fails("export", "default", "--from=joint2d", "--out=x.pt2", cwd=place)
    assert "wrist or palm" in fails("export", "default", "--from=joints2d", "--root=elbow", "--out=x.pt2", cwd=place)
