"""Calibration on held-out hands: weights that never lose, an uncertainty as large as the error."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hands import joints_file

from cvhpe import Modality
from cvhpe.calibrate import calibrate, error, gather
from cvhpe.cli.evaluate import score
from cvhpe.config import checked
from cvhpe.data.loader import Batches
from cvhpe.data.sources import open_data
from cvhpe.evaluate import palm_of, predict
from cvhpe.fusion import calibration_of, fuse
from cvhpe.losses import points_loss
from cvhpe.metrics import errors
from cvhpe.nn import JointDecoder, JointEncoder
from cvhpe.ops import warp_joints
from cvhpe.registry import registry
from cvhpe.run import load_run
from cvhpe.train import train

HALVES = {"radial2d": [*range(1, 11)], "ulnar2d": [*range(11, 21)]}
"""Two inputs that see ten joints each, and nothing of what the other sees."""

SETTINGS = {
    "modalities": [*HALVES, "joints3d"],
    "pairs": [f"{name}:joints3d" for name in HALVES],
    "width": 64,
    "depth": 2,
    "latent_dim": 12,
    "epochs": 60,
    "least_steps": 0,
    "validations": 2,
    "lr": 3e-3,
    "device": "cpu",
    "threads": 1,
}


def half(name, rows):
    n = len(rows)
    return Modality(
        name=name,
        shape=(n, 2),
        units="fraction of the crop",
        geometry="points2d",
        encoder=lambda d: JointEncoder(n, 2, d, width=64, depth=2, input_scale=4.0),
        decoder=lambda d: JointDecoder(n, 2, d, width=64, depth=2),
        loss=points_loss,
        augment=warp_joints,
        fake=lambda m, generator: torch.rand(m, n, 2, generator=generator) - 0.5,
        reads=("joints2d",),
        derive=partial(lambda rows, fields: fields["joints2d"][:, rows], rows),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two inputs that complement each other, and its validation and test hands."""
    folder = tmp_path_factory.mktemp("calibrate")
    supplied = registry().supplier("joints2d").supplied["modality"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVHPE_CACHE", str(folder / "cache"))
        for name, rows in HALVES.items():
            patch.setitem(supplied, name, half(name, rows))
        split = np.repeat(["train", "val", "test"], [448, 160, 160])
        path = joints_file(folder / "hands.npz", len(split), split=split)
        config = checked({**SETTINGS, "data": [f"joints:{path}"]})
        data = open_data(config)
        train(config, data, folder / "run")
        yield load_run(folder / "run"), data


def test_training_leaves_the_calibration_of_its_validation_hands(trained):
    run, data = trained
    found = calibration_of(run.facts.training)
    assert found is not None
    assert found.frames == 160
    assert set(found.weights) == set(HALVES)
    assert set(found.spread) == {"radial2d", "ulnar2d", "radial2d,ulnar2d"}
    again = calibrate(run, data.validation)
    assert again.weights == found.weights
    for name, factor in found.spread.items():
        assert again.spread[name] == pytest.approx(factor, rel=1e-3)


def test_calibrated_fusion_is_not_worse_than_the_better_input_on_hands_it_never_saw(trained):
    run, data = trained
    result = score(run, data.test, "radial2d,ulnar2d", "joints3d", None)
    alone = [s.epe_median for s in result.alone.values()]
    assert len(alone) == 2
    assert result.model.epe_median <= min(alone)
    assert result.weights == calibration_of(run.facts.training).weights
    for name in HALVES:
        lone = score(run, data.test, name, "joints3d", None)
        assert lone.model.epe_median == pytest.approx(result.alone[name].epe_median, abs=1e-6)


def test_fused_predictions_are_those_of_the_fused_posterior(trained):
    run, data = trained
    names, weights = list(HALVES), {"radial2d": 0.3, "ulnar2d": 1.0}
    held = gather(run, data.test, names)
    by_parts = error(run, held, fuse(held.posteriors, weights))
    batches = Batches(data.test, ("joints2d", "joints3d"), 64, seed=0, shuffle=False)
    common = {"protocol": "TSH", "mean_scale_mm": run.facts.mean_scale_mm, "palm": palm_of("hand21")}
    got = predict(run.model, batches.epoch(0), names, margin=batches.margin, weights=weights, **common)
    np.testing.assert_allclose(errors(got.predicted, got.truth)[got.visible], by_parts, atol=1e-3)


def test_the_spread_is_scaled_to_the_error_on_hands_it_never_saw(trained):
    run, data = trained
    found = calibration_of(run.facts.training)
    again = calibrate(run, data.test)
    # of bare samples the spread is far too small, of scaled ones about right
    assert found.spread["radial2d"] > 1.5
    assert again.spread["radial2d"] / found.spread["radial2d"] == pytest.approx(1.0, abs=0.25)
