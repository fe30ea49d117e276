"""The data of the report: the numbers of evaluation, or the reason why a section is left out."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from scipy import stats

from cvhpe.viz.report.accuracy import score_inputs
from cvhpe.viz.report.gather import gather_report
from cvhpe.viz.report.images import sprite_sheet, to_uint8_images
from cvhpe.viz.report.page import MAX_BYTES, report_html, to_json, write_report
from cvhpe.viz.report.paper import published_results
from cvhpe.viz.report.reliability import calibration_bins, reliability

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture(scope="module")
def data(held_everything):
    return gather_report(held_everything, None)


def test_metrics_are_those_of_evaluate(held_lift, lift):
    from typer.testing import CliRunner

    from cvhpe.cli import app

    done = CliRunner().invoke(app, ["evaluate", str(lift), "--from", "joints2d", "--json"])
    evaluated = json.loads(done.stdout.splitlines()[-1])
    scores = score_inputs(held_lift)["joints2d"]
    assert scores["run"].epe_median == pytest.approx(evaluated["epe_median_mm"], abs=1e-3)
    assert scores["run"].auc_20_50 == pytest.approx(evaluated["auc_20_50"], abs=1e-4)
    assert scores["regression"].epe_median == pytest.approx(
        evaluated["baselines"]["regression"]["epe_median_mm"], abs=1e-3
    )


def test_a_run_with_all_modalities_leaves_nothing_out(data):
    assert [k for k, v in data.items() if isinstance(v, dict) and "left_out" in v] == []
    assert [m["source"] for m in data["metrics"]] == ["rgb", "depth", "joints2d", "joints3d"]
    rgb = data["metrics"][0]["rows"]
    assert [r["kind"] for r in rgb] == ["run", "baseline", "paper", "paper", "paper", "paper"]
    assert rgb[2]["median"] == 16.74
    assert rgb[2]["note"] == "on RHD"
    assert rgb[4]["note"] == "on STB; other data"
    assert set(data["training"]["losses"]) >= {"RGB → 3D joints", "depth → depth"}
    assert len(data["training"]["epe"]["RGB"]) == len(data["training"]["validated"])


def test_best_and_worst_are_sorted_and_of_different_hands(data):
    best, worst = ([h["error"] for h in data["examples"][k]["hands"]] for k in ("best", "worst"))
    assert best == sorted(best)
    assert worst == sorted(worst, reverse=True)
    assert max(best) <= min(worst)


def test_sections_without_3d_joints_are_left_out_with_the_reason(held_everything, tmp_path):
    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.models.pairs import parse_pairs
    from cvhpe.models.vae import CrossModalVAE
    from cvhpe.runs.run_dir import Run

    old = held_everything.run
    pairs = parse_pairs("rgb:rgb,rgb:joints2d", list(old.model.modalities))
    model = CrossModalVAE(old.model.modalities, pairs, old.config.latent_dim).eval()
    run = Run(tmp_path, model, old.config, old.metadata, {})
    data = gather_report(EvalSet(run, held_everything.batches.packs), None)
    for part in ("metrics", "pck", "joints", "examples", "reliability"):
        assert data[part] == {"left_out": "this run decodes rgb, joints2d, not joints3d"}
    assert data["training"]["left_out"] == "metrics.jsonl is not in the run folder"
    (tmp_path / "metrics.jsonl").write_text('[1, 2]\n"x"\n7\n{"kind": "tr', encoding="utf-8")
    assert (
        gather_report(EvalSet(run, held_everything.batches.packs), None)["training"]["left_out"]
        == "no step has been logged"
    )
    assert {"image", "joints2d"} <= set(data["interpolation"])
    assert data["latents"]["panels"][0]["accuracy"] == {"left_out": "only one modality is encoded"}
    assert "https://" not in report_html(data).replace("http://www.w3.org/2000/svg", "")


def test_without_scikit_learn_only_the_latent_space_is_left_out(held_lift, monkeypatch):
    import importlib

    real = importlib.import_module

    def without(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    data = gather_report(held_lift, None)
    assert [k for k, v in data.items() if isinstance(v, dict) and "left_out" in v] == ["latents"]
    assert "cvhpe[figures]" in data["latents"]["left_out"]


def test_the_page_is_self_contained_and_small(data, tmp_path):
    size = write_report(data, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert size == len(text.encode()) < MAX_BYTES
    assert set(re.findall(r"""(?:src|href)=["']([^"'#][^"']*)""", text)) == {"data:,"}
    assert set(re.findall(r"https?://[^\"'\s<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "{{" not in text
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert json.loads(block[1])["run"]["name"] == "everything"


def test_a_name_cannot_end_the_script(data):
    evil = {**data, "config": "</script><script>alert(1)</script>", "run": {**data["run"], "name": "<b>&"}}
    text = report_html(evil)
    assert "<script>alert" not in text
    assert "<title>&lt;b&gt;&amp;" in text


def test_numbers_are_plain():
    assert to_json({"x": np.float32(np.inf), "y": (np.int64(2), 0.123456)}) == {"x": None, "y": [2, 0.1235]}


def test_sprite_sheets_hold_their_images_in_order(rng):
    from io import BytesIO

    from PIL import Image

    shades = np.linspace(0, 250, 5).astype(np.uint8)
    sheet = sprite_sheet(np.broadcast_to(shades[:, None, None, None], (5, 32, 32, 3)), 16)
    image = np.asarray(Image.open(BytesIO(base64.b64decode(sheet["uri"].partition(",")[2]))))
    assert (sheet["side"], sheet["columns"]) == (16, 3)
    for i, shade in enumerate(shades):
        y, x = divmod(i, 3)
        assert abs(int(image[16 * y + 8, 16 * x + 8, 0]) - int(shade)) < 6


def test_near_is_bright_in_depth_images():
    assert to_uint8_images(np.full((1, 1, 2, 2), -0.5, np.float32)).min() == 255


# -- reliability -------------------------------------------------------------------------------------


def test_a_calibrated_standard_deviation_is_on_the_diagonal(rng):
    deviation = rng.uniform(2, 20, 40000)
    error = deviation / np.sqrt(3) * stats.chi(3).rvs(40000, random_state=0)
    predicted, actual = calibration_bins(deviation, error)
    np.testing.assert_allclose(actual, predicted, rtol=0.05)


def test_the_calibration_of_the_run_is_used_or_else_fitted_on_other_hands(held_lift):
    from dataclasses import replace

    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.uncertainty.fusion import CALIBRATION, Calibration
    from cvhpe.uncertainty.sample_scaling import SampleScaling

    def of(training):
        run = replace(held_lift.run, metadata=replace(held_lift.run.metadata, training=training))
        return reliability(EvalSet(run, held_lift.batches.packs), "joints2d")

    calibrated = of({CALIBRATION: Calibration({}, {"joints2d": SampleScaling(2.5)}, 9).as_dict()})
    assert (calibrated["scale"], calibrated["dof"], calibrated["has_calibration"], calibrated["hands"]) == (
        2.5,
        0.0,
        True,
        64,
    )
    assert (calibrated["sd"] > calibrated["sd_raw"]).all()
    assert (calibrated["coverage"] >= calibrated["coverage_raw"]).all()
    fitted = of({})
    assert (fitted["has_calibration"], fitted["hands"]) == (False, 32)
    np.testing.assert_allclose(fitted["coverage"], fitted["levels"], atol=0.2)


def test_depth_is_compared_with_the_papers_mean_errors():
    assert [(r.epe_mm, r.is_mean) for r in published_results("depth", "TSH", [])] == [
        (8.5, True),
        (8.0, True),
        (8.1, True),
    ]
    assert published_results("silhouette", "TSH", []) == []
