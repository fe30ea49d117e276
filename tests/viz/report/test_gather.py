"""What the report says: the numbers of evaluation, and words where a run has none."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from scipy import stats

from cvhpe.viz.report.gather import collect, scored
from cvhpe.viz.report.images import as_bytes, sheet
from cvhpe.viz.report.page import MOST_BYTES, plain, render, write
from cvhpe.viz.report.paper import reported
from cvhpe.viz.report.reliability import binned, reliability

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture(scope="module")
def data(held_everything):
    return collect(held_everything, None)


def test_metrics_are_those_of_evaluate(held_lift, lift):
    from typer.testing import CliRunner

    from cvhpe.cli import app

    done = CliRunner().invoke(app, ["evaluate", str(lift), "--from", "joints2d", "--json"])
    said = json.loads(done.stdout.splitlines()[-1])
    mine = scored(held_lift)["joints2d"]
    assert mine["run"].epe_median == pytest.approx(said["epe_median_mm"], abs=1e-3)
    assert mine["run"].auc_20_50 == pytest.approx(said["auc_20_50"], abs=1e-4)
    assert mine["regression"].epe_median == pytest.approx(said["baselines"]["regression"]["epe_median_mm"], abs=1e-3)


def test_a_run_of_everything_leaves_nothing_out(data):
    assert [k for k, v in data.items() if isinstance(v, dict) and "lacking" in v] == []
    assert [m["source"] for m in data["metrics"]] == ["rgb", "depth", "joints2d", "joints3d"]
    rgb = data["metrics"][0]["rows"]
    assert [r["kind"] for r in rgb] == ["run", "baseline", "paper", "paper", "paper", "paper"]
    assert rgb[2]["median"] == 16.74
    assert rgb[2]["note"] == "on RHD"
    assert rgb[4]["note"] == "on STB; other data"
    assert set(data["training"]["losses"]) >= {"RGB → 3D joints", "depth → depth"}
    assert len(data["training"]["epe"]["RGB"]) == len(data["training"]["checked"])


def test_best_and_worst_are_sorted_and_of_different_hands(data):
    best, worst = ([h["error"] for h in data["examples"][k]["hands"]] for k in ("best", "worst"))
    assert best == sorted(best)
    assert worst == sorted(worst, reverse=True)
    assert max(best) <= min(worst)


def test_a_run_without_3d_joints_is_told_what_it_lacks(held_everything, tmp_path):
    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.models.pairs import parse_pairs
    from cvhpe.models.vae import CrossModalVAE
    from cvhpe.runs.run_dir import Run

    old = held_everything.run
    pairs = parse_pairs("rgb:rgb,rgb:joints2d", list(old.model.modalities))
    model = CrossModalVAE(old.model.modalities, pairs, old.config.latent_dim).eval()
    run = Run(tmp_path, model, old.config, old.metadata, {})
    data = collect(EvalSet(run, held_everything.batches.packs), None)
    for part in ("metrics", "pck", "joints", "examples", "reliability"):
        assert data[part] == {"lacking": "this run decodes rgb, joints2d, not joints3d"}
    assert data["training"]["lacking"] == "metrics.jsonl is not in the run folder"
    (tmp_path / "metrics.jsonl").write_text('[1, 2]\n"x"\n7\n{"kind": "tr', encoding="utf-8")
    assert (
        collect(EvalSet(run, held_everything.batches.packs), None)["training"]["lacking"] == "no step has been logged"
    )
    assert {"picture", "joints2d"} <= set(data["walk"])
    assert data["space"]["panels"][0]["mixing"] == {"lacking": "one modality alone is encoded"}
    assert "https://" not in render(data).replace("http://www.w3.org/2000/svg", "")


def test_without_scikit_learn_only_the_latent_space_is_left_out(held_lift, monkeypatch):
    import importlib

    real = importlib.import_module

    def without(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    data = collect(held_lift, None)
    assert [k for k, v in data.items() if isinstance(v, dict) and "lacking" in v] == ["space"]
    assert "cvhpe[figures]" in data["space"]["lacking"]


def test_the_page_is_whole_in_itself_and_small(data, tmp_path):
    size = write(data, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert size == len(text.encode()) < MOST_BYTES
    # Nothing is fetched: every address is data or the name of a format.
    assert set(re.findall(r"""(?:src|href)=["']([^"'#][^"']*)""", text)) == {"data:,"}
    assert set(re.findall(r"https?://[^\"'\s<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "{{" not in text
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert json.loads(block[1])["run"]["name"] == "everything"


def test_a_name_cannot_end_the_script(data):
    evil = {**data, "config": "</script><script>alert(1)</script>", "run": {**data["run"], "name": "<b>&"}}
    text = render(evil)
    assert "<script>alert" not in text
    assert "<title>&lt;b&gt;&amp;" in text


def test_numbers_are_plain():
    assert plain({"x": np.float32(np.inf), "y": (np.int64(2), 0.123456)}) == {"x": None, "y": [2, 0.1235]}


def test_sheets_hold_their_pictures_in_order(rng):
    from io import BytesIO

    from PIL import Image

    shades = np.linspace(0, 250, 5).astype(np.uint8)
    found = sheet(np.broadcast_to(shades[:, None, None, None], (5, 32, 32, 3)), 16)
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(found["uri"].partition(",")[2]))))
    assert (found["side"], found["columns"]) == (16, 3)
    for i, shade in enumerate(shades):
        y, x = divmod(i, 3)
        assert abs(int(picture[16 * y + 8, 16 * x + 8, 0]) - int(shade)) < 6


def test_near_is_bright_in_depth():
    assert as_bytes(np.full((1, 1, 2, 2), -0.5, np.float32)).min() == 255


# -- reliability -------------------------------------------------------------------------------------


def test_an_honest_spread_is_on_the_line(rng):
    spread = rng.uniform(2, 20, 40000)
    error = spread / np.sqrt(3) * stats.chi(3).rvs(40000, random_state=0)
    predicted, actual = binned(spread, error)
    np.testing.assert_allclose(actual, predicted, rtol=0.05)


def test_the_calibration_of_the_run_is_used_and_else_found_on_other_hands(held_lift):
    from dataclasses import replace

    from cvhpe.evaluation.eval_set import EvalSet
    from cvhpe.uncertainty.fusion import CALIBRATION, Calibration, SampleScaling

    def of(training):
        run = replace(held_lift.run, metadata=replace(held_lift.run.metadata, training=training))
        return reliability(EvalSet(run, held_lift.batches.packs), "joints2d")

    carried = of({CALIBRATION: Calibration({}, {"joints2d": SampleScaling(2.5)}, 9).as_dict()})
    assert (carried["scale"], carried["dof"], carried["carried"], carried["hands"]) == (2.5, 0.0, True, 64)
    assert (carried["calibrated"] > carried["spread"]).all()
    assert (carried["covered"] >= carried["covered_raw"]).all()
    found = of({})
    assert (found["carried"], found["hands"]) == (False, 32)
    np.testing.assert_allclose(found["covered"], found["levels"], atol=0.2)


def test_depth_stands_beside_the_papers_mean_errors():
    assert [(r.mm, r.mean) for r in reported("depth", "TSH", [])] == [(8.5, True), (8.0, True), (8.1, True)]
    assert reported("silhouette", "TSH", []) == []
