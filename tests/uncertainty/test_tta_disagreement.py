"""TTA disagreement against views that are made and undone in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.untrained import untrained_run

from cvhpe.inference.predict import Options, detection_from, make_fields, predict_hand
from cvhpe.runs.run_dir import load_run
from cvhpe.synthetic import poses
from cvhpe.uncertainty.fusion import calibration_of
from cvhpe.uncertainty.sample_scaling import SampleScaling, geometric_mean_rms, sample_std
from cvhpe.uncertainty.tta_disagreement import encode_tta, tta_std


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tta")
    return untrained_run(folder / "run", "joints2d:joints3d", augmentation={"rotation_deg": 90})


def test_disagreement_is_the_deviation_of_undone_views(run):
    hand = poses(1, seed=3, left=1)
    fields, _, _ = make_fields(run, None, detection_from(None, 0, hand["joints2d_px"][0]))
    with torch.inference_mode():
        seen = encode_tta(run, fields, ["joints2d"], 1.5, 3)
        got = tta_std(run, seen, ["joints2d"], {}, torch.tensor([30.0]))
    assert len(seen) == 6
    flat = fields["joints2d"][0].numpy().astype(np.float64)
    flat[0] = (flat[0] + flat[9]) / 2  # the labelled wrist becomes the palm
    undone = []
    for degrees in (-90, 0, 90):
        for mirror in (1, -1):
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            rotate = np.array([[c, -s], [s, c]]) @ np.diag([mirror, 1])
            x = torch.from_numpy((flat @ rotate.T)[None]).float()
            side = torch.tensor([[1.0, 0.0] if mirror == 1 else [0.0, 1.0]])
            with torch.inference_mode():
                joints = run.model.decode("joints3d", run.model.encode("joints2d", x, side).mu)[0].double().numpy()
            joints[0] = 0
            undone.append(np.concatenate([joints[:, :2] @ rotate, joints[:, 2:]], 1) * 30)
    deviations = np.array(undone) - np.mean(undone, axis=0)
    rms = np.sqrt((deviations**2).sum(-1).mean(0))[1:]  # the root never moves
    assert float(got) == pytest.approx(float(np.exp(np.log(rms).mean())), rel=1e-3)


def test_samples_are_rescaled_to_the_disagreement():
    generator = torch.Generator().manual_seed(0)
    samples, centre = torch.randn(50, 4, 21, 3, generator=generator), torch.zeros(4, 21, 3)
    samples[:, :, 0] = 0  # the root
    disagreements = torch.tensor([1.0, 2.0, 5.0, 0.5])
    wide = SampleScaling(3.0, 0.0, 4).rescale_samples(samples, centre, disagreement=disagreements)
    torch.testing.assert_close(geometric_mean_rms(wide), 3 * disagreements)
    assert not wide[:, :, 0].any()
    # the ratio between joints is that of the samples
    ratio = sample_std(wide, centre)[:, 1:] / sample_std(samples, centre)[:, 1:]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    for scaling, given in ((SampleScaling(3.0, 0.0, 4), None), (SampleScaling(3.0), disagreements)):
        with pytest.raises(ValueError, match="give disagreement"):
            scaling.rescale_samples(samples, centre, disagreement=given)


def test_bundled_model_uses_the_disagreement():
    run = load_run("default")
    scaling = calibration_of(run.metadata.training).scaling(["joints2d"])
    assert scaling.tta_angles > 0
    hand = poses(1, seed=3, left=1)
    found = detection_from(None, 0, hand["joints2d_px"][0])
    got = predict_hand(run, None, found, Options(samples=40))
    fields, _, _ = make_fields(run, None, found)
    with torch.inference_mode():
        seen = encode_tta(run, fields, ["joints2d"], run.config.crop_margin, scaling.tta_angles)
        disagreements = float(tta_std(run, seen, ["joints2d"], {}, torch.tensor([run.metadata.mean_scale_mm])))
    deviations = torch.from_numpy(got.samples_mm - got.joints3d_mm)
    # each sample is widened by a factor of its own, so that their spread is about that of all factors
    typical = disagreements * float(np.sqrt((scaling.factors(40) ** 2).mean()))
    assert float(geometric_mean_rms(deviations)) == pytest.approx(typical, rel=0.5)
    np.testing.assert_allclose(got.uncertainty_mm, sample_std(deviations, torch.zeros(21, 3)).numpy(), rtol=1e-4)
