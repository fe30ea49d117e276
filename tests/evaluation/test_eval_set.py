"""EvalSet-out samples: the same numbers that evaluation gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.hands import joints_file
from helpers.untrained import untrained_run

from cvhpe.errors import UserError
from cvhpe.evaluation.eval_set import EvalSet
from cvhpe.evaluation.evaluate import predict
from cvhpe.runs.run_dir import load_run, save_run
from cvhpe.training.datamodule import open_held_out
from cvhpe.viz.figures.axes import hand_errors, select_examples


def evaluated(held, source):
    """What evaluation predicts of the same hands."""
    run = held.run
    common = {"protocol": run.config.protocol, "mean_scale_mm": run.metadata.mean_scale_mm, "palm": held.palm}
    return predict(run.model, held.batches.epoch(0), source, margin=held.batches.margin, **common)


def test_predictions_and_truth_are_those_of_evaluation(held_lift):
    rows = np.arange(held_lift.batches.samples)
    got = evaluated(held_lift, "joints2d")
    np.testing.assert_allclose(held_lift.predict("joints2d", rows), got.predicted, atol=1e-3)
    np.testing.assert_array_equal(held_lift.truth(rows), got.truth)
    np.testing.assert_array_equal(held_lift.visible(rows), got.visible)


def test_what_an_input_says_beside_its_posterior_is_heard(tmp_path):
    data = [f"joints:{joints_file(tmp_path / 'hands.npz', 24, 12)}"]
    run = untrained_run(tmp_path / "rays", "rays:joints3d", data=data)
    held = EvalSet(run, open_held_out(run.config, data, ""))
    got = evaluated(held, "rays")
    np.testing.assert_allclose(held.predict("rays", held.having("rays", "joints3d")), got.predicted, atol=1e-3)


def test_a_smaller_draw_begins_a_larger_one(held_lift):
    np.testing.assert_array_equal(held_lift.some(10, "joints2d"), held_lift.some(30, "joints2d")[:10])


def test_without_scale_3d_joints_are_encoded_in_the_units_of_training(held_lift, tmp_path):
    """Not bones of the hand itself but mean bones: a large hand stays large."""
    run = held_lift.run
    save_run(tmp_path, run.model, run.config.model_copy(update={"protocol": "TH"}), run.metadata, {})
    plain = EvalSet(load_run(tmp_path), held_lift.batches.packs)
    rows = np.arange(8)
    ratio = held_lift.arrays["scale_mm"][:8] / run.metadata.mean_scale_mm
    expected = held_lift.to_network_input("joints3d", rows) * ratio[:, None, None]
    torch.testing.assert_close(plain.to_network_input("joints3d", rows), expected)
    assert np.ptp(plain.scale(rows)) == 0


def test_another_layout_is_refused(held_lift):
    from dataclasses import replace

    run = replace(held_lift.run, metadata=replace(held_lift.run.metadata, layout="icvl16"))
    with pytest.raises(UserError, match="trained on layout icvl16, the data has"):
        EvalSet(run, open_held_out(run.config, list(run.config.data), ""))


def test_shown_hands_go_from_best_to_worst(held_lift):
    rows = select_examples(held_lift, "joints2d", 6)
    error = hand_errors(held_lift.truth(rows), held_lift.predict("joints2d", rows), held_lift.visible(rows))
    assert len(rows) == 6
    assert (np.diff(error) >= 0).all()
    every = held_lift.judged(held_lift.having("joints2d", "joints3d"))
    best = hand_errors(held_lift.truth(every), held_lift.predict("joints2d", every), held_lift.visible(every)).min()
    assert error[0] == pytest.approx(best)


def test_a_hand_out_of_sight_is_not_the_best_predicted(held_lift):
    held = EvalSet(held_lift.run, open_held_out(held_lift.run.config, list(held_lift.run.config.data), ""))
    held.arrays["visible"] = held.arrays["visible"].clone()
    held.arrays["visible"][5] = False
    held.arrays["visible"][7] = torch.arange(21) == 0  # the root alone, whose error is 0 by definition
    held.arrays["visible"][8] = torch.arange(21) < 10  # nine of twenty beside the root
    held.arrays["visible"][9] = torch.arange(21) < 11
    rows = held.having("joints2d", "joints3d")
    assert set(rows) - set(held.judged(rows)) == {5, 7, 8}
    assert not {5, 7, 8} & set(select_examples(held, "joints2d", 6))
    few = np.array([5, 7, 8])
    assert list(held.judged(few)) == [8]  # where no hand is half in sight
