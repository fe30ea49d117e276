"""The report's accuracy: metrics beside baselines and the paper, PCK curves, errors by joint, examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvhpe.evaluation.baselines import baseline_summaries
from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
from cvhpe.evaluation.evaluate import labelled, predict
from cvhpe.evaluation.metrics import Summary, summary
from cvhpe.geometry.skeleton import FINGERS, layout
from cvhpe.viz.figures.axes import hand_errors
from cvhpe.viz.report.images import thumbnails
from cvhpe.viz.report.paper import published_results
from cvhpe.viz.style import display_name, modality_colours

BASELINES = {"mean_pose": "mean pose", "regression": "linear regression"}
EXAMPLES, EXAMPLE_PX = 6, 160


def score_inputs(eval_set: EvalSet) -> dict[str, dict[str, Summary]]:
    """Input modality -> summaries of the ``run`` and of each baseline, as ``cvhpe evaluate`` computes them."""
    if "joints3d" not in eval_set.outputs:
        return {}
    run, batches, scores = eval_set.run, eval_set.batches, {}
    common: Any = {"protocol": run.config.protocol, "mean_scale_mm": run.metadata.mean_scale_mm, "palm": eval_set.palm}
    for source in eval_set.inputs:
        reads = run.model.modalities[source].reads
        if bool(labelled(eval_set.arrays, reads).any()):
            result = predict(run.model, batches.epoch(0), source, margin=batches.margin, **common)
            baselines = baseline_summaries(run.baselines, batches.epoch(0), source, reads, **common)
            scores[source] = {"run": summary(result.predicted, result.truth, result.visible), **baselines}
    return scores


def metrics_table(eval_set: EvalSet, source: str, scores: Mapping[str, Summary]) -> dict[str, Any]:
    """The metrics of one input: the run, the baselines and what the paper reports.

    Args:
        eval_set: The held-out samples.
        source: The input modality.
        scores: Its entry of :func:`score_inputs`.

    Returns:
        The table as JSON data.
    """
    rows: list[dict[str, Any]] = []
    for name, s in scores.items():
        kind, method = ("run", "this run") if name == "run" else ("baseline", BASELINES.get(name, name))
        row = {"median": s.epe_median, "mean": s.epe_mean, "pa": s.pa_mpjpe}
        rows.append({"method": method, "kind": kind, **row, "auc_0_50": s.auc_0_50, "auc_20_50": s.auc_20_50})
    used = {d.partition(":")[0] for d in eval_set.run.config.data}
    for p in published_results(source, eval_set.run.config.protocol, eval_set.run.model.pairs):
        note = f"on {p.data.upper()}" + ("" if p.data in used else "; other data")
        rows.append({"method": p.method, "kind": "paper", "note": note, "mean" if p.is_mean else "median": p.epe_mm})
    return {"source": source, "label": display_name(source), "frames": scores["run"].frames, "rows": rows}


def pck_curves(scores: Mapping[str, Mapping[str, Summary]]) -> dict[str, Any]:
    """PCK curves of every input, and of the baselines of the first."""
    palette = modality_colours(list(scores))
    curves = [{"name": display_name(s), "colour": palette[s], "values": by["run"].pck} for s, by in scores.items()]
    first = next(iter(scores.values()))
    curves += [{"name": BASELINES.get(n, n), "values": s.pck} for n, s in first.items() if n != "run"]
    return {"thresholds": first["run"].thresholds, "curves": curves}


def joint_errors(eval_set: EvalSet, source: str, scores: Summary) -> dict[str, Any]:
    """Errors by joint, and by finger as the mean over its joints.

    Args:
        eval_set: The held-out samples.
        source: The input modality.
        scores: The run's summary for it.

    Returns:
        JSON data of two bar charts.
    """
    hand = layout(eval_set.run.metadata.layout)
    fingers = []
    for finger in FINGERS:
        means = scores.per_joint_mean[list(hand.fingers[finger])]
        if np.isfinite(means).any():
            colour = hand.colour(hand.fingers[finger][0])
            fingers.append({"name": finger, "mean": np.nanmean(means), "colour": colour})
    return {
        "source": display_name(source),
        "names": list(hand.joints),
        "colours": [hand.colour(j) for j in range(len(hand))],
        "mean": scores.per_joint_mean,
        "median": scores.per_joint_median,
        "fingers": fingers,
    }


def prediction_examples(eval_set: EvalSet, source: str) -> dict[str, Any]:
    """The held-out hands with the lowest and the highest errors.

    Args:
        eval_set: The held-out samples.
        source: The input modality.

    Returns:
        JSON data: thumbnails, true and predicted joints.

    Raises:
        MissingDataError: No sample has both the input and all 3D joints.
    """
    rows = eval_set.mostly_visible(eval_set.rows_with(source, "joints3d"))
    if not len(rows):
        raise MissingDataError(f"no held-out sample has both {source} and all 3D joints")
    predicted, truth = eval_set.predict(source, rows), eval_set.true_joints(rows)
    errors_mm = hand_errors(truth, predicted, eval_set.visible(rows))
    order = np.argsort(errors_mm, kind="stable")
    count = min(EXAMPLES, len(order))
    data: dict[str, Any] = {"source": display_name(source), "frames": len(rows)}
    for kind, chosen in (("best", order[:count]), ("worst", order[::-1][:count])):
        hands = [
            {"row": int(rows[i]), "error": errors_mm[i], "truth": truth[i], "predicted": predicted[i]} for i in chosen
        ]
        data[kind] = {**thumbnails(eval_set, rows[chosen], EXAMPLE_PX), "hands": hands}
    return data
