"""Exported files against the run they were made from, computed as in evaluation."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from helpers.untrained import untrained_run

import cvhpe.inference.export as module
from cvhpe.errors import UserError
from cvhpe.geometry.camera import crop_around
from cvhpe.inference.export import export
from cvhpe.inference.exported_modules import Pixels, Points, pixel_table
from cvhpe.inference.predict import detection_from, predict_hand
from cvhpe.models.fusion import FusionParams
from cvhpe.plugin.contract import ModelShape, View
from cvhpe.plugin.registry import registry
from cvhpe.synthetic import poses
from cvhpe.uncertainty.fusion import Calibration

HOW: FusionParams = {"weights": {"rgb": 1.0, "joints2d": 1.0}, "precisions": {"rgb": [1.5, 9, 2, 3, 5, 4]}}
MEASURED = {"calibration": Calibration({"joints2d,rgb": HOW}, {}, 9).as_dict()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "joints2d": untrained_run(folder / "lift", "joints2d:joints3d", "joints2d:joints2d"),
        "rgb": untrained_run(folder / "rgb", "rgb:joints3d", "joints2d:joints3d"),
        "precisions": untrained_run(folder / "precisions", "rgb:joints3d", "joints2d:joints3d", training=MEASURED),
        "depth": untrained_run(folder / "depth", "depth:joints3d", protocol="T"),
        "joints3d": untrained_run(folder / "self", "joints3d:joints3d"),
        "rays": untrained_run(folder / "rays", "rays:joints3d"),
    }


@pytest.fixture(params=[".onnx", ".pt2"])
def ending(request):
    if request.param == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name, reason="ONNX is not installed (extra 'export')")
    return request.param


def opened(path):
    if path.suffix == ".pt2":
        files = {"cvhpe.json": ""}
        program = torch.export.load(path, extra_files=files)
        return lambda *x: program.module()(*map(torch.from_numpy, x)).detach().numpy(), json.loads(files["cvhpe.json"])
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [one.name for one in session.get_inputs()]
    card = session.get_modelmeta().custom_metadata_map
    return lambda *x: session.run(None, dict(zip(names, x, strict=True)))[0], card


def test_a_lifter_takes_pixels_of_any_frame(runs, tmp_path, ending):
    run, out = runs["joints2d"], tmp_path / f"m{ending}"
    assert export(run, ["joints2d"], "joints3d", out) <= module.TOLERANCE_MM
    call, card = opened(out)
    hands = poses(4, 5)
    uv, left = hands["joints2d_px"] * 3 + 1000, hands["is_left"]
    got = call(uv.astype(np.float32), np.where(left, 0, 1))
    for k in range(4):
        hand = predict_hand(run, None, detection_from(None, int(not left[k]), uv[k]))
        np.testing.assert_allclose(got[k], hand.joints3d_mm, atol=2e-2)  # float32 and float64 pixels
    assert (card["layout"], card["root"], card["scale_mm"]) == ("hand21", "palm", "30")
    assert card["units"].startswith("mm relative to the root")
    assert [port["name"] for port in json.loads(card["inputs"])] == ["joints2d_px", "hand"]
    assert json.loads(card["output"])["shape"] == ["batch", 21, 3]


def test_a_palm_root_is_not_shifted(runs, tmp_path):
    export(runs["joints2d"], ["joints2d"], "joints3d", tmp_path / "palm.pt2", root="palm")
    call, card = opened(tmp_path / "palm.pt2")
    uv = poses(1, 5)["joints2d_px"]
    hand = predict_hand(runs["joints2d"], None, detection_from(None, 1, uv[0], root="palm"))
    np.testing.assert_allclose(call(uv, np.array([1]))[0], hand.joints3d_mm, atol=2e-2)
    assert card["input_root"] == "palm"


def test_image_inputs_are_stored_pixels(runs, tmp_path, ending):
    run, out = runs["rgb"], tmp_path / f"m{ending}"
    assert export(run, ["rgb"], "joints3d", out) <= module.TOLERANCE_MM
    call, _ = opened(out)
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    ready = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5
    with torch.inference_mode():
        side = torch.eye(2)[[0, 1, 1]]
        expected = run.model.decode("joints3d", run.model.encode("rgb", ready, side).mu) * 30.0
        expected[:, 0] = 0  # the root is the origin
    np.testing.assert_allclose(call(images, np.array([0, 1, 1])), expected, atol=2e-3)


def test_several_inputs_are_fused_inside(runs, tmp_path, ending):
    for name in ("rgb", "precisions"):
        assert export(runs[name], ["rgb", "joints2d"], "joints3d", tmp_path / f"{name}{ending}") <= module.TOLERANCE_MM


def test_depth_codes_and_runs_without_a_side(runs, tmp_path, ending):
    out = tmp_path / f"m{ending}"
    export(runs["depth"], ["depth"], "joints3d", out)
    _, card = opened(out)
    assert [port["name"] for port in json.loads(card["inputs"])] == ["depth"]
    assert card["scale_from"] == "predicted"


def test_other_inputs_and_targets_are_network_ready(runs, tmp_path):
    assert export(runs["joints3d"], ["joints3d"], "joints3d", tmp_path / "self.pt2") <= module.TOLERANCE_MM
    export(
        runs["joints2d"], ["joints2d", "joints2d"], "joints2d", tmp_path / "flat.pt2"
    )  # a repeated input counts once
    _, card = opened(tmp_path / "flat.pt2")
    assert card["units"] == "fraction of the crop, centre 0"
    assert json.loads(card["inputs"])[0]["name"] == "joints2d_px"


def test_joints_are_refined_as_in_evaluation(runs, tmp_path):
    out = tmp_path / "m.pt2"
    assert export(runs["rays"], ["rays"], "joints3d", out) <= module.TOLERANCE_MM
    call, _ = opened(out)
    rays = 0.1 * torch.randn(2, 21, 2, generator=torch.Generator().manual_seed(0)).numpy()
    got = call(rays, np.array([0, 1]))
    modality, model = runs["rays"].model.modalities["rays"], runs["rays"].model
    with torch.inference_mode():
        z = model.encode("rays", torch.from_numpy(rays), torch.eye(2)).mu
        bare = model.decode("joints3d", z) * runs["rays"].metadata.mean_scale_mm
        bare[:, 0] = 0
        expected = modality.refine(bare, torch.from_numpy(rays)).numpy()
    assert np.abs(bare.numpy() - expected).max() > 1
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_an_operation_that_onnx_lacks_is_a_user_error(runs, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="ONNX is not installed (extra 'export')")
    with pytest.raises(UserError, match=r"^--from rays: ONNX lacks .*m\.pt2"):
        export(runs["rays"], ["rays"], "joints3d", tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["rgb", "depth"])
def test_pixels_are_normalised_as_by_the_modality(name):
    modality = registry().modality(name).sized(ModelShape(image_size=64))
    pixels = Pixels(modality)
    assert (pixels.table is None) == (name == "rgb")
    most, channels = (255, (3,)) if name == "rgb" else (65535, ())
    dtype = torch.uint8 if name == "rgb" else torch.uint16
    x = torch.randint(0, most + 1, (2, 64, 64, *channels)).to(dtype)
    torch.testing.assert_close(pixels(x), modality.augment(x, View.identity(2)), atol=1e-5, rtol=0)


def test_a_modality_that_mixes_pixels_is_a_user_error():
    import dataclasses

    modality = registry().modality("rgb").sized(ModelShape(image_size=64))

    def blurred(x, view):
        return torch.nn.functional.avg_pool2d(modality.augment(x, view), 3, 1, 1)

    with pytest.raises(UserError, match="pixel by pixel"):
        pixel_table(dataclasses.replace(modality, augment=blurred))


def test_the_exported_crop_is_that_of_training():
    uv = torch.from_numpy(poses(6, 8)["joints2d_px"])
    points = Points(1.25, 0, 9, 0.5)(uv)
    for one, got in zip(uv.numpy(), points.numpy(), strict=True):
        at = crop_around(one, 1.25).fraction(one)
        at[0] = (at[0] + at[9]) / 2
        np.testing.assert_allclose(got, at, atol=1e-5)


def test_a_file_that_differs_is_not_kept(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "max_difference", lambda *a: 0.5)
    with pytest.raises(RuntimeError, match=r"differs by 0\.5"):
        export(runs["joints2d"], ["joints2d"], "joints3d", tmp_path / "m.pt2")
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_user_errors(runs, tmp_path, monkeypatch):
    run = runs["joints2d"]
    for names, target, out, says in (
        (["joint2d"], "joints3d", "m.pt2", "did you mean 'joints2d'"),
        ([], "joints3d", "m.pt2", "name an input"),
        (["joints2d"], "rgb", "m.pt2", "decodes no rgb"),
        (["joints2d"], "joints3d", "m.onx", r"end it in \.onnx or \.pt2"),
    ):
        with pytest.raises(UserError, match=says):
            export(run, names, target, tmp_path / out)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"cvhpe\[export\]"):
        export(run, ["joints2d"], "joints3d", tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
