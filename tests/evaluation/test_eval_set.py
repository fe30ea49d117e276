"""Held-out samples give the numbers of evaluation."""

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


def evaluate(eval_set, source):
    """The predictions of evaluation for the same hands."""
    run = eval_set.run
    common = {"protocol": run.config.protocol, "mean_scale_mm": run.metadata.mean_scale_mm, "palm": eval_set.palm}
    return predict(run.model, eval_set.batches.epoch(0), source, margin=eval_set.batches.margin, **common)


def test_predictions_and_truth_are_those_of_evaluation(held_lift):
    rows = np.arange(held_lift.batches.samples)
    evaluated = evaluate(held_lift, "joints2d")
    np.testing.assert_allclose(held_lift.predict("joints2d", rows), evaluated.predicted, atol=1e-3)
    np.testing.assert_array_equal(held_lift.true_joints(rows), evaluated.truth)
    np.testing.assert_array_equal(held_lift.visible(rows), evaluated.visible)


def test_predictions_are_refined(tmp_path):
    data = [f"joints:{joints_file(tmp_path / 'hands.npz', 24, 12)}"]
    run = untrained_run(tmp_path / "rays", "rays:joints3d", data=data)
    eval_set = EvalSet(run, open_held_out(run.config, data, ""))
    evaluated = evaluate(eval_set, "rays")
    np.testing.assert_allclose(
        eval_set.predict("rays", eval_set.rows_with("rays", "joints3d")), evaluated.predicted, atol=1e-3
    )


def test_a_smaller_sample_begins_a_larger_one(held_lift):
    np.testing.assert_array_equal(held_lift.sample_rows(10, "joints2d"), held_lift.sample_rows(30, "joints2d")[:10])


def test_without_scale_3d_joints_are_encoded_in_the_units_of_training(held_lift, tmp_path):
    """The unit is the mean bone of the training hands, not the hand's own."""
    run = held_lift.run
    save_run(tmp_path, run.model, run.config.model_copy(update={"protocol": "TH"}), run.metadata, {})
    without_s = EvalSet(load_run(tmp_path), held_lift.batches.packs)
    rows = np.arange(8)
    ratio = held_lift.arrays["scale_mm"][:8] / run.metadata.mean_scale_mm
    expected = held_lift.to_network_input("joints3d", rows) * ratio[:, None, None]
    torch.testing.assert_close(without_s.to_network_input("joints3d", rows), expected)
    assert np.ptp(without_s.scale_mm(rows)) == 0


def test_another_layout_is_refused(held_lift):
    from dataclasses import replace

    run = replace(held_lift.run, metadata=replace(held_lift.run.metadata, layout="icvl16"))
    with pytest.raises(UserError, match="trained on layout icvl16, the data has"):
        EvalSet(run, open_held_out(run.config, list(run.config.data), ""))


def test_examples_are_sorted_by_error(held_lift):
    rows = select_examples(held_lift, "joints2d", 6)
    error = hand_errors(held_lift.true_joints(rows), held_lift.predict("joints2d", rows), held_lift.visible(rows))
    assert len(rows) == 6
    assert (np.diff(error) >= 0).all()
    rows_mostly = held_lift.mostly_visible(held_lift.rows_with("joints2d", "joints3d"))
    best = hand_errors(
        held_lift.true_joints(rows_mostly), held_lift.predict("joints2d", rows_mostly), held_lift.visible(rows_mostly)
    ).min()
    assert error[0] == pytest.approx(best)


def test_examples_are_mostly_visible(held_lift):
    eval_set = EvalSet(held_lift.run, open_held_out(held_lift.run.config, list(held_lift.run.config.data), ""))
    eval_set.arrays["visible"] = eval_set.arrays["visible"].clone()
    eval_set.arrays["visible"][5] = False
    eval_set.arrays["visible"][7] = torch.arange(21) == 0  # the root alone, whose error is 0 by definition
    eval_set.arrays["visible"][8] = torch.arange(21) < 10  # nine of twenty joints and the root
    eval_set.arrays["visible"][9] = torch.arange(21) < 11
    rows = eval_set.rows_with("joints2d", "joints3d")
    assert set(rows) - set(eval_set.mostly_visible(rows)) == {5, 7, 8}
    assert not {5, 7, 8} & set(select_examples(eval_set, "joints2d", 6))
    few = np.array([5, 7, 8])
    assert list(eval_set.mostly_visible(few)) == [8]  # no row is mostly visible
