"""The five figures: of a run that has everything, of one that has little, and what is said of the rest."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvhpe.errors import UserError
from cvhpe.viz import skeleton
from cvhpe.viz.figures import latent_interpolation, posterior, style
from cvhpe.viz.figures.render import make
from cvhpe.viz.figures.unimodal_baseline import given, separate_config, separately_trained


@pytest.fixture(scope="module")
def made(held_everything, tmp_path_factory):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    out = tmp_path_factory.mktemp("made")
    run = held_everything.run
    return out, make(held_everything, out, lambda: separately_trained(run, 4))


def test_a_run_of_everything_gives_every_figure_as_png_and_pdf(made):
    out, figures = made
    names = [m.name for m in figures]
    assert names == ["tsne", "walk", "predictions_rgb", "predictions_joints2d", "samples", "depth"]
    assert not any(m.left_out for m in figures)
    for m in figures:
        assert m.files == (f"{m.name}.png", f"{m.name}.pdf")
        picture = np.asarray(Image.open(out / m.files[0]).convert("RGB"))
        assert min(picture.shape[:2]) > 250
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
        assert (out / m.files[1]).read_bytes().startswith(b"%PDF")
        assert b"/Type3" not in (out / m.files[1]).read_bytes()
    assert json.loads((out / "figures.json").read_text())[0]["caption"] == figures[0].caption


def test_the_papers_colours_are_in_the_pictures(made):
    out, _ = made

    def has(name, colour):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        pixels = np.asarray(Image.open(out / f"{name}.png").convert("RGB")).astype(int)
        return (np.abs(pixels - wanted).max(-1) < 30).sum() > 20

    for colour in ("rgb", "joints2d", "joints3d"):
        assert has("tsne", style.MODALITY_COLOURS[colour])
    for name in ("predictions_rgb", "samples", "depth"):
        assert has(name, style.TRUTH)
        assert has(name, style.PREDICTION)


def test_the_caption_of_the_tsne_tells_the_numbers(made):
    _, figures = made
    assert "0.25 is perfectly mixed" in figures[0].caption
    assert "24 held-out hands in 4 modalities" in figures[0].caption


def test_what_a_run_lacks_is_left_out_with_a_word_why(held_lift, tmp_path):
    told = []
    made = make(held_lift, tmp_path, lambda: pytest.fail("not needed"), ["walk", "samples", "depth"], done=told.append)
    assert told == made
    assert {m.name: m.left_out for m in made} == {
        "walk": "",
        "samples": "",
        "depth": "this run encodes joints2d, joints3d, not depth",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "figures.json", "samples.pdf", "samples.png", "walk.pdf", "walk.png",
    ]  # fmt: skip


def test_a_counterpart_that_cannot_be_had_costs_the_tsne_alone(held_everything, tmp_path):
    def broken():
        raise UserError("its training fell apart")

    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    with pytest.raises(UserError, match="fell apart"):
        make(held_everything, tmp_path, broken, ["tsne"])
    made = make(held_everything, tmp_path, broken)
    assert (made[0].name, made[0].left_out) == ("tsne", "its training fell apart")
    assert len(made) == 6
    assert not any(m.left_out for m in made[1:])


def test_figures_repeat_themselves_to_the_byte(held_lift, tmp_path):
    for name in ("a", "b"):
        make(held_lift, tmp_path / name, lambda: pytest.fail("not needed"), ["samples"])
    for kind in ("png", "pdf"):
        assert (tmp_path / "a" / f"samples.{kind}").read_bytes() == (tmp_path / "b" / f"samples.{kind}").read_bytes()


def test_a_walk_is_straight_and_ends_at_what_was_encoded(held_lift):
    path = latent_interpolation.walk(held_lift, 5)
    mu = held_lift.encode("joints2d", path.ends).mu
    torch.testing.assert_close(path.z[[0, 4]], mu)
    torch.testing.assert_close(path.z[2], mu.mean(0))
    side = held_lift.arrays["side"][torch.from_numpy(path.ends)]
    assert side[0] == side[1]
    assert latent_interpolation.walk(held_lift, 3, (7, 2)).ends.tolist() == [7, 2]


def test_samples_spread_as_the_posterior_says(held_lift):
    """Decoded from N(mu, sigma^2): with sigma zero all samples are the prediction."""
    from cvhpe.plugin.contract import Posterior

    rows = np.arange(3)
    q = held_lift.encode("joints2d", rows)
    sure = posterior.decoded(held_lift, Posterior(q.mu, torch.full_like(q.logvar, -60)), rows, 4)
    np.testing.assert_allclose(sure, np.broadcast_to(held_lift.predict("joints2d", rows), sure.shape), atol=1e-3)
    wide = posterior.sampled(held_lift, "joints2d", rows, 50)
    assert wide.shape == (50, 3, 21, 3)
    assert wide.std(0).mean() > 0.1


def test_axes_show_all_of_their_hands(rng):
    from cvhpe.viz.figures.style import blank

    axes = blank(2, 2).add_subplot(projection="3d")
    small, large = rng.normal(size=(21, 3)), rng.normal(size=(21, 3)) * 50 + 20
    large[4] = np.nan
    skeleton.draw3d(axes, small)
    skeleton.frame3d(axes, small, large)
    x, y, z = axes.get_xlim(), axes.get_ylim(), axes.get_zlim()
    for (low, high), values in ((x, large[:, 0]), (y, large[:, 2]), (z, -large[:, 1])):
        assert low < np.nanmin(values)
        assert high > np.nanmax(values)
    assert np.ptp(x) == pytest.approx(np.ptp(y)) == pytest.approx(np.ptp(z))


# -- the separately trained counterpart --------------------------------------------------------------


def test_the_counterpart_is_the_same_run_but_for_pairs_and_length(held_everything):
    run = held_everything.run
    config = separate_config(run, 7)
    assert config.pairs == ("rgb:rgb", "depth:depth", "joints2d:joints2d", "joints3d:joints3d")
    changed = {k for k, v in config.model_dump().items() if v != run.config.model_dump()[k]}
    lengths = {"epochs", "min_steps", "num_validations", "keep_checkpoints", "warmup_fraction"}
    assert changed <= {"pairs", "pair_weights"} | lengths


def test_pictures_are_not_hurried_to_a_rate_that_they_do_not_bear(held_everything, held_lift):
    from dataclasses import replace

    for held, rate in ((held_everything, 1e-3), (held_lift, 3e-3)):
        fast = replace(held.run, config=held.run.config.model_copy(update={"lr": 3e-3}))
        assert separate_config(fast, 7).lr == rate


def test_the_counterpart_is_trained_once_and_again_when_asked_for_otherwise(held_lift):
    run = held_lift.run
    first = separately_trained(run, 3)
    stamp = (first.path / "model.safetensors").stat().st_mtime_ns
    assert separately_trained(run, 3).path == first.path
    assert (first.path / "model.safetensors").stat().st_mtime_ns == stamp
    assert not (first.path / "checkpoints").exists()
    separately_trained(run, 4)
    assert (first.path / "model.safetensors").stat().st_mtime_ns != stamp
    assert given(run, first.path).path == first.path


def test_two_processes_do_not_make_the_same_counterpart(held_lift):
    """The second would write into the folder of the first."""
    from cvhpe.io.locking import run_lock

    run = held_lift.run
    with run_lock(run.path), pytest.raises(UserError, match=r"made now .*another run is writing .*--unimodal-run"):
        separately_trained(run, 5)
    # What a killed one left behind is in nobody's way.
    (run.path / ".separate" / "checkpoints").mkdir(parents=True)
    (run.path / ".separate" / "model.safetensors").write_bytes(b"half")
    assert separately_trained(run, 5).config.min_steps == 5
    assert not (run.path / ".separate").exists()


def test_a_cross_trained_run_is_no_counterpart(held_lift):
    with pytest.raises(UserError, match=r"cross-trained itself \(joints2d:joints3d\)"):
        given(held_lift.run, held_lift.run.path)


# -- the command --------------------------------------------------------------------------------------


def command(*arguments):
    from typer.testing import CliRunner

    from cvhpe.cli import app

    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_says_where_figures_are_and_which_are_left_out(lift, tmp_path):
    done = command("figures", lift, "--only", "walk,depth", "--out", tmp_path, "--interpolate", "1,2")
    assert done.exit_code == 0, done.output
    assert f"walk: {tmp_path}/walk.png, {tmp_path}/walk.pdf" in done.output
    assert "depth: left out: this run encodes joints2d, joints3d, not depth" in done.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--only", "tsen"], "did you mean 'tsne'"),
        (["--only", "walk", "--interpolate", "1,900"], "the held-out hands are 0 to 63"),
        (["--only", "walk", "--interpolate", "one"], "write two numbers"),
    ],
)
def test_wrong_options_are_one_line(lift, arguments, word):
    done = command("figures", lift, *arguments)
    assert isinstance(done.exception, UserError)
    assert word in str(done.exception)
