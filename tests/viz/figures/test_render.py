"""The figures of a run with all modalities, of a run with few, and the reasons for what is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from cvhpe.errors import UserError
from cvhpe.plugin.contract import Posterior
from cvhpe.viz import style
from cvhpe.viz.figures.latent_interpolation import interpolate_latents
from cvhpe.viz.figures.posterior_samples import decode_samples
from cvhpe.viz.figures.predictions import predictions_figure
from cvhpe.viz.figures.render import render_figures
from cvhpe.viz.figures.unimodal_baseline import train_unimodal


@pytest.fixture(scope="module")
def rendered(held_everything, tmp_path_factory):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    out = tmp_path_factory.mktemp("rendered")
    return out, render_figures(held_everything, out, lambda: train_unimodal(held_everything.run, 4))


def test_a_run_with_all_modalities_gives_every_figure_as_png_and_pdf(rendered):
    out, figures = rendered
    names = [f.name for f in figures]
    assert names == ["tsne", "interpolation", "predictions_rgb", "predictions_joints2d", "samples", "depth"]
    assert not any(f.left_out for f in figures)
    for f in figures:
        assert f.files == (f"{f.name}.png", f"{f.name}.pdf")
        assert (out / f.files[0]).read_bytes().startswith(b"\x89PNG")
        pdf = (out / f.files[1]).read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/Type3" not in pdf
    assert json.loads((out / "figures.json").read_text())[0]["caption"] == figures[0].caption


def test_the_caption_of_the_tsne_has_the_numbers(rendered):
    _, figures = rendered
    assert "chance, which is perfect mixing, is 0.25" in figures[0].caption
    assert "24 held-out hands in 4 modalities" in figures[0].caption


def test_predictions_and_truth_have_the_papers_colours_and_places(held_lift):
    rows = np.arange(2)
    figure, _ = predictions_figure(held_lift, "joints2d", rows=rows)
    predicted, truth = held_lift.predict("joints2d", rows), held_lift.true_joints(rows)
    for n, axes in enumerate(a for a in figure.axes if a.name == "3d"):
        points = {style.PREDICTION: [], style.TRUTH: []}
        for line in axes.lines:
            points[to_hex(line.get_color())].append(np.stack(line.get_data_3d(), -1))
        for colour, joints in ((style.PREDICTION, predicted[n]), (style.TRUTH, truth[n])):
            plotted = np.concatenate(points[colour])
            expected = np.stack([joints[:, 0], joints[:, 2], -joints[:, 1]], -1)
            plotted = np.unique(plotted[np.isfinite(plotted).all(-1)], axis=0)
            np.testing.assert_allclose(plotted, np.unique(expected, axis=0), rtol=1e-5)


def test_what_a_run_lacks_is_left_out_with_the_reason(held_lift, tmp_path):
    reported = []
    figures = render_figures(
        held_lift,
        tmp_path,
        lambda: pytest.fail("not needed"),
        ["interpolation", "samples", "depth"],
        on_figure=reported.append,
    )
    assert reported == figures
    assert {f.name: f.left_out for f in figures} == {
        "interpolation": "",
        "samples": "",
        "depth": "this run encodes joints2d, joints3d, not depth",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "figures.json", "interpolation.pdf", "interpolation.png", "samples.pdf", "samples.png",
    ]  # fmt: skip


def test_a_baseline_that_cannot_be_trained_costs_the_tsne_only(held_lift, tmp_path):
    def broken():
        raise UserError("the training diverged")

    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    with pytest.raises(UserError, match="diverged"):
        render_figures(held_lift, tmp_path, broken, ["tsne"])
    figures = render_figures(held_lift, tmp_path, broken)
    assert (figures[0].name, figures[0].left_out) == ("tsne", "the training diverged")
    assert [f.name for f in figures if f.files] == ["interpolation", "predictions", "samples"]


def test_figures_are_reproducible_to_the_byte(held_lift, tmp_path):
    for name in ("a", "b"):
        render_figures(held_lift, tmp_path / name, lambda: pytest.fail("not needed"), ["samples"])
    for kind in ("png", "pdf"):
        assert (tmp_path / "a" / f"samples.{kind}").read_bytes() == (tmp_path / "b" / f"samples.{kind}").read_bytes()


def test_an_interpolation_is_straight_and_ends_at_the_latent_means(held_lift):
    line = interpolate_latents(held_lift, 5)
    mu = held_lift.encode("joints2d", line.ends).mu
    torch.testing.assert_close(line.z[[0, 4]], mu)
    torch.testing.assert_close(line.z[2], mu.mean(0))
    side = held_lift.arrays["side"][torch.from_numpy(line.ends)]
    assert side[0] == side[1]
    assert interpolate_latents(held_lift, 3, (7, 2)).ends.tolist() == [7, 2]


def test_samples_have_the_deviation_of_the_posterior(held_lift):
    """With a standard deviation of zero all samples are the prediction."""
    rows = np.arange(3)
    q = held_lift.encode("joints2d", rows)
    narrow = decode_samples(held_lift, Posterior(q.mu, torch.full_like(q.logvar, -60)), rows, 4)
    np.testing.assert_allclose(narrow, np.broadcast_to(held_lift.predict("joints2d", rows), narrow.shape), atol=1e-3)
    samples = decode_samples(held_lift, q, rows, 50)
    assert samples.shape == (50, 3, 21, 3)
    assert samples.std(0).mean() > 0.1
