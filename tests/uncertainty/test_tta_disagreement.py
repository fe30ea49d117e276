"""FusionParams much predictions hang on how a hand is turned, against views made and undone by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.untrained import untrained_run

from cvhpe.inference.predict import Options, detection_from, make_fields, predict_hand
from cvhpe.runs.run_dir import load_run
from cvhpe.synthetic import poses
from cvhpe.uncertainty.fusion import SampleScaling, calibration_of, spread, spread_as, typical_spread
from cvhpe.uncertainty.tta_disagreement import encode_tta, tta_std


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doubt")
    return untrained_run(folder / "run", "joints2d:joints3d", augmentation={"rotation_deg": 90})


def test_doubt_is_the_spread_of_views_made_and_undone_by_hand(run):
    hand = poses(1, seed=3, left=1)
    fields, _, _ = make_fields(run, None, detection_from(None, 0, hand["joints2d_px"][0]))
    with torch.inference_mode():
        seen = encode_tta(run, fields, ["joints2d"], 1.5, 3)
        got = tta_std(run, seen, ["joints2d"], {}, torch.tensor([30.0]))
    assert len(seen) == 6
    flat = fields["joints2d"][0].numpy().astype(np.float64)
    flat[0] = (flat[0] + flat[9]) / 2  # the labelled wrist becomes the palm
    said = []
    for degrees in (-90, 0, 90):
        for mirror in (1, -1):
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            turn = np.array([[c, -s], [s, c]]) @ np.diag([mirror, 1])
            x = torch.from_numpy((flat @ turn.T)[None]).float()
            side = torch.tensor([[1.0, 0.0] if mirror == 1 else [0.0, 1.0]])
            with torch.inference_mode():
                joints = run.model.decode("joints3d", run.model.encode("joints2d", x, side).mu)[0].double().numpy()
            joints[0] = 0
            said.append(np.concatenate([joints[:, :2] @ turn, joints[:, 2:]], 1) * 30)
    apart = np.array(said) - np.mean(said, axis=0)
    rms = np.sqrt((apart**2).sum(-1).mean(0))[1:]  # the root never moves
    assert float(got) == pytest.approx(float(np.exp(np.log(rms).mean())), rel=1e-3)


def test_a_width_with_turns_gives_samples_the_spread_of_the_hands_doubt():
    generator = torch.Generator().manual_seed(0)
    samples, centre = torch.randn(50, 4, 21, 3, generator=generator), torch.zeros(4, 21, 3)
    samples[:, :, 0] = 0  # the root
    unsure = torch.tensor([1.0, 2.0, 5.0, 0.5])
    wide = SampleScaling(3.0, 0.0, 4).rescale_samples(samples, centre, doubt=unsure)
    torch.testing.assert_close(typical_spread(wide), 3 * unsure)
    assert not wide[:, :, 0].any()
    # which joints of a hand are the unsure ones is left to its samples
    ratio = spread(wide, centre)[:, 1:] / spread(samples, centre)[:, 1:]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    for width, told in ((SampleScaling(3.0, 0.0, 4), None), (SampleScaling(3.0), unsure)):
        with pytest.raises(ValueError, match="doubt of every hand"):
            width.rescale_samples(samples, centre, doubt=told)
    assert not spread_as(torch.zeros(5, 1, 21, 3), torch.ones(1)).any()


def test_the_model_that_ships_says_how_sure_it_is_by_its_views():
    run = load_run("default")
    width = calibration_of(run.metadata.training).width(["joints2d"])
    assert width.turns > 0
    hand = poses(1, seed=3, left=1)
    found = detection_from(None, 0, hand["joints2d_px"][0])
    got = predict_hand(run, None, found, Options(samples=40))
    fields, _, _ = make_fields(run, None, found)
    with torch.inference_mode():
        seen = encode_tta(run, fields, ["joints2d"], run.config.crop_margin, width.turns)
        unsure = float(tta_std(run, seen, ["joints2d"], {}, torch.tensor([run.metadata.mean_scale_mm])))
    apart = torch.from_numpy(got.samples_mm - got.joints3d_mm)
    # each sample is widened by a factor of its own, so that their spread is about that of all factors
    typical = unsure * float(np.sqrt((width.scales(40) ** 2).mean()))
    assert float(typical_spread(apart)) == pytest.approx(typical, rel=0.5)
    np.testing.assert_allclose(got.uncertainty_mm, spread(apart, torch.zeros(21, 3)).numpy(), rtol=1e-4)
