"""Calibration on held-out hands: fusion never worse than an input, credible regions with their coverage."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from helpers.hands import joints_file

from cvhpe import Modality
from cvhpe.cli.evaluate import calibration_warnings
from cvhpe.cli.scores import score
from cvhpe.config.schema import checked
from cvhpe.data.loader import Batches
from cvhpe.evaluation.evaluate import palm_of, predict
from cvhpe.evaluation.metrics import errors
from cvhpe.models.blocks import JointDecoder, JointEncoder
from cvhpe.models.fusion import fuse
from cvhpe.models.losses import points_loss
from cvhpe.ops import warp_joints
from cvhpe.plugin.registry import registry
from cvhpe.runs.run_dir import load_run
from cvhpe.training.calibration import calibrate_trained_run
from cvhpe.training.callbacks import Reporter
from cvhpe.training.datamodule import open_data
from cvhpe.training.trainer import train
from cvhpe.uncertainty.calibration import calibrate, encode_hands, measure_coverage
from cvhpe.uncertainty.coverage import LEVELS
from cvhpe.uncertainty.cross_validation import run_folds
from cvhpe.uncertainty.fusion import calibration_of, fusion_params, input_key
from cvhpe.uncertainty.fusion_fit import best_fusion, fit_precisions, median_plus_mean, visible_errors
from cvhpe.uncertainty.sample_scaling import UNSCALED

HALVES = {"radial2d": [*range(1, 11)], "ulnar2d": [*range(11, 21)]}
"""Two inputs that see ten joints each, and nothing of what the other sees."""

SETTINGS = {
    "modalities": [*HALVES, "joints3d"],
    "pairs": [f"{name}:joints3d" for name in HALVES],
    "hidden_dim": 64,
    "num_hidden_layers": 2,
    "latent_dim": 12,
    "epochs": 60,
    "min_steps": 0,
    "num_validations": 2,
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
        encoder=lambda d: JointEncoder(n, 2, d, hidden_dim=64, num_hidden_layers=2, input_scale=4.0),
        decoder=lambda d: JointDecoder(n, 2, d, hidden_dim=64, num_hidden_layers=2),
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
        yield calibrate_trained_run(load_run(folder / "run"), config, data), data


def test_training_leaves_the_calibration_of_its_validation_hands(trained):
    run, data = trained
    found = calibration_of(run.metadata.training)
    assert found is not None
    assert found.frames == 160
    how = fusion_params(found, list(HALVES))
    assert list(found.fusions) == [input_key(list(HALVES))]
    assert set(how["weights"]) == set(HALVES)
    assert set(how["precisions"]) in (set(), set(HALVES))  # as the hands decide
    assert all(len(one) == 12 and min(one) > 1 for one in how["precisions"].values())
    assert found.split == "validation"
    assert set(found.scalings) == {"radial2d", "ulnar2d", input_key(list(HALVES))}
    again = calibrate(run, data.validation)
    assert fusion_params(again, list(HALVES))["weights"] == how["weights"]
    for name, width in found.scalings.items():
        assert again.scalings[name].scale == pytest.approx(width.scale, rel=0.02)


def test_calibrated_fusion_is_not_worse_than_the_better_input_on_hands_it_never_saw(trained):
    run, data = trained
    result = score(run, data.test, "radial2d,ulnar2d", "joints3d", None)
    alone = [s.epe_median for s in result.alone.values()]
    assert len(alone) == 2
    assert result.model.epe_median <= min(alone)
    assert result.weights == fusion_params(calibration_of(run.metadata.training), list(HALVES))["weights"]
    for name in HALVES:
        lone = score(run, data.test, name, "joints3d", None)
        assert lone.model.epe_median == pytest.approx(result.alone[name].epe_median, abs=1e-6)


def test_measured_precisions_are_those_of_which_no_other_errs_less(trained):
    """The descent against a search of another kind: no single precision, moved far either way, lessens the error."""
    run, data = trained
    held = encode_hands(run, data.validation, list(HALVES))
    found = fit_precisions(run, held, list(HALVES))

    def mean(precisions):
        return float(visible_errors(run, held, fuse(held.posteriors, precisions=precisions)).mean())

    least = mean(found)
    for name, one in found.items():
        for d in range(len(one)):
            for factor in (0.25, 4.0):
                moved = one.clone()
                moved[d] = 1 + (moved[d] - 1) * factor
                assert mean({**found, name: moved}) > least - 0.05


def test_precisions_that_do_not_generalise_are_not_used(trained, monkeypatch):
    run, data = trained
    held = encode_hands(run, data.validation, list(HALVES))
    flat = {name: torch.full((12,), 1.001) for name in HALVES}  # all but the prior: the mean hand
    monkeypatch.setattr("cvhpe.uncertainty.fusion_fit.fit_precisions", lambda *_: flat)
    how = best_fusion(run, held, list(HALVES))
    assert how["precisions"] == {}
    fused = median_plus_mean(visible_errors(run, held, fuse(held.posteriors, **how)))
    assert fused <= min(median_plus_mean(visible_errors(run, held, held.posteriors[name])) for name in HALVES)


def test_fused_predictions_are_those_of_the_fused_posterior(trained):
    run, data = trained
    names, weights = list(HALVES), {"radial2d": 0.3, "ulnar2d": 1.0}
    held = encode_hands(run, data.test, names)
    by_parts = visible_errors(run, held, fuse(held.posteriors, weights))
    batches = Batches(data.test, ("joints2d", "joints3d"), 64, seed=0, shuffle=False)
    common = {"protocol": "TSH", "mean_scale_mm": run.metadata.mean_scale_mm, "palm": palm_of("hand21")}
    got = predict(run.model, batches.epoch(0), names, margin=batches.margin, fusion={"weights": weights}, **common)
    np.testing.assert_allclose(errors(got.predicted, got.truth)[got.visible], by_parts, atol=1e-3)


def test_evaluation_warns_if_it_uses_the_frames_of_the_calibration(trained):
    run, data = trained
    (source,) = run.config.data
    names = list(HALVES)
    assert calibration_warnings(run, [source], data.test, names) == []
    warning = f"{source}: evaluated on the run's validation frames, on which the calibration"
    assert calibration_warnings(run, [source], data.validation, names) == [f"{warning} and the fusion were fitted"]
    assert calibration_warnings(run, [source], data.validation, names[:1]) == [f"{warning} was fitted"]
    metadata = dataclasses.replace(run.metadata, training={})
    unknown = dataclasses.replace(run, metadata=metadata)
    (warning,) = calibration_warnings(unknown, [source], data.validation, names)
    assert warning.startswith("the fusion of radial2d and ulnar2d is not calibrated")


def test_calibrated_regions_have_their_coverage(trained):
    run, data = trained
    width = calibration_of(run.metadata.training).scaling(["radial2d"])
    with torch.inference_mode():
        assert (
            np.array(measure_coverage(run, data.validation, ["radial2d"], UNSCALED)) < np.array([0.4, 0.7, 0.9])
        ).all()
        np.testing.assert_allclose(measure_coverage(run, data.validation, ["radial2d"], width), LEVELS, atol=0.05)
        # hands that were not used for fitting
        np.testing.assert_allclose(measure_coverage(run, data.test, ["radial2d"], width), LEVELS, atol=0.12)


def test_cross_validation_calibrates_on_training_hands(trained, tmp_path):
    run, data = trained
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    config = run.config.model_copy(update={"calibration_num_folds": 3})
    notes = []
    copied = calibrate_trained_run(load_run(folder), config, data, Reporter(note=notes.append))
    found = calibration_of(load_run(folder).metadata.training)
    assert found == calibration_of(copied.metadata.training)
    assert (found.split, found.frames) == ("training", 448)
    assert "3-fold cross-validation" in notes[0]
    # Both inputs together are fused as on validation hands: precisions belong to the latent space of one model.
    alone = calibration_of(run.metadata.training)
    assert found.fusions == calibrate(run, data.validation).fusions
    assert set(found.scalings) == set(alone.scalings)
    assert (found.fitted_on(["ulnar2d"]), found.fitted_on(list(HALVES))) == ("training", "validation")
    was, now = (calibration_of(r.metadata.training).scaling(["ulnar2d"]).scale for r in (run, copied))
    assert now / was == pytest.approx(1.0, abs=0.5)
    for a, b in zip(run.model.parameters(), copied.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_too_few_groups_calibrate_on_validation_hands(trained, tmp_path):
    run, data = trained
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    pack = data.train[0]
    one = dataclasses.replace(pack, arrays={**pack.arrays, "group": np.zeros(len(pack), np.int64)}, rows=None)
    config, notes = run.config.model_copy(update={"calibration_num_folds": 2}), []
    few = dataclasses.replace(data, train=[one])
    done = calibrate_trained_run(load_run(folder), config, few, Reporter(note=notes.append))
    assert calibration_of(done.metadata.training).split == "validation"
    assert "too few groups" in notes[0]


def test_each_fold_is_judged_by_a_run_of_all_other_groups(trained):
    run, data = trained
    groups = np.repeat(np.arange(64), 7)
    pack = data.train[0].subset(np.arange(len(groups)))
    pack = dataclasses.replace(pack, arrays={**pack.arrays, "group": groups}, rows=None)
    seen = []

    def fit(config, data, out):
        seen.append((config, data))
        shutil.copytree(run.path, out, dirs_exist_ok=True)

    config = run.config.model_copy(update={"calibration_num_folds": 4})
    parts = list(run_folds(config, dataclasses.replace(data, train=[pack]), 1000, fit))
    assert len(parts) == len(seen) == 4
    for (_, held), (short, others) in zip(parts, seen, strict=True):
        mine, theirs = set(held[0]["group"]), set(others.train[0]["group"])
        assert not mine & theirs
        assert len(mine | theirs) == 64
        assert others.validation == held
        assert (short.min_steps, short.epochs, short.calibration_num_folds) == (250, 1, 0)
    assert len({short.seed for short, _ in seen} | {config.seed}) == 5
