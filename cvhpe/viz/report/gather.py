"""Everything that the page shows, gathered from a run and its held-out hands."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from cvhpe.errors import UserError
from cvhpe.evaluation.eval_set import EvalSet, Lacking
from cvhpe.evaluation.evaluate import baseline_summaries, labelled, predict
from cvhpe.evaluation.latent_space import embed, mixing, tsne
from cvhpe.evaluation.metrics import Summary, summary
from cvhpe.geometry.skeleton import FINGERS, layout
from cvhpe.runs.run_dir import Run
from cvhpe.runs.serialization import read_card
from cvhpe.viz.figures.axes import mean_errors
from cvhpe.viz.figures.latent_interpolation import source_of, walk
from cvhpe.viz.figures.style import colours, label
from cvhpe.viz.report.images import as_bytes, resized, sheet
from cvhpe.viz.report.paper import reported
from cvhpe.viz.report.reliability import reliability

Array = np.ndarray
POINTS = 240
WALK_STEPS = 25
SHOWN = 6
CURVE_POINTS = 400
THUMB, CARD = 64, 160
BASELINES = {"mean_pose": "mean pose", "regression": "linear regression"}


def collect(held: EvalSet, separate: Run | None) -> dict[str, Any]:
    """What the page shows; ``separate``: the separately trained counterpart, where there is one.

    A part that the run cannot give is ``{"lacking": why}``.
    """
    main = source_of(held)
    scores = scored(held)
    return {
        "run": about(held),
        "skeleton": skeleton(held),
        "metrics": [metrics(held, source, s) for source, s in scores.items()] or lacking_3d(held),
        "training": training(held.run),
        "pck": pck(scores) or lacking_3d(held),
        "joints": joints(held, main, scores[main]["run"]) if main in scores else lacking_3d(held),
        "examples": part(lambda: examples(held, main)) if main in scores else lacking_3d(held),
        "space": part(lambda: space(held, separate)),
        "walk": part(lambda: steps(held)),
        "reliability": (reliability(held, main) or {"lacking": "too few held-out hands"})
        if main in scores
        else lacking_3d(held),
        "config": held.run.config.toml(),
        "versions": versions(held.run),
    }


def part(gather: Any) -> Any:
    """What ``gather`` gives, or why the run cannot give it."""
    try:
        return gather()
    except (Lacking, UserError) as error:
        return {"lacking": str(error)}


def lacking_3d(held: EvalSet) -> dict[str, str]:
    if "joints3d" not in held.outputs:
        return {"lacking": f"this run decodes {', '.join(held.outputs)}, not joints3d"}
    return {"lacking": "no held-out sample has labelled 3D joints"}


def about(held: EvalSet) -> dict[str, Any]:
    """The run in a few words."""
    run = held.run
    count = sum(p.numel() for p in run.model.parameters())
    return {
        "name": run.path.resolve().name,
        "modalities": [label(m) for m in run.model.modalities],
        "pairs": [f"{label(p.source)} → {label(p.target)}" for p in run.model.pairs],
        "data": list(run.config.data),
        "held_out": held.batches.samples,
        "protocol": run.config.protocol,
        "layout": run.metadata.layout,
        "latent": run.config.latent_dim,
        "parameters": count,
        "step": run.metadata.training.get("step"),
    }


def skeleton(held: EvalSet) -> dict[str, Any]:
    """Bones and colours, for drawing hands."""
    one = layout(held.run.metadata.layout)
    return {"bones": [list(b) for b in one.bones], "colours": [one.colour(j) for j in range(len(one))]}


def scored(held: EvalSet) -> dict[str, dict[str, Summary]]:
    """Input -> the run's summary and the baselines', as ``cvhpe evaluate`` counts."""
    if "joints3d" not in held.outputs:
        return {}
    run, found = held.run, {}
    common: Any = {"protocol": run.config.protocol, "mean_scale_mm": run.metadata.mean_scale_mm, "palm": held.palm}
    for source in held.inputs:
        reads = run.model.modalities[source].reads
        if not bool(labelled(held.arrays, reads).any()):
            continue
        got = predict(run.model, held.batches.epoch(0), source, margin=held.batches.margin, **common)
        base = baseline_summaries(run.baselines, held.batches.epoch(0), source, reads, **common)
        found[source] = {"run": summary(got.predicted, got.truth, got.visible), **base}
    return found


def metrics(held: EvalSet, source: str, scores: dict[str, Summary]) -> dict[str, Any]:
    """One table: the run, the baselines, what the paper reports."""
    rows: list[dict[str, Any]] = []
    for name, s in scores.items():
        kind, who = ("run", "this run") if name == "run" else ("baseline", BASELINES.get(name, name))
        rows.append(
            {
                "who": who,
                "kind": kind,
                "median": s.epe_median,
                "mean": s.epe_mean,
                "pa": s.pa_mpjpe,
                "auc_0_50": s.auc_0_50,
                "auc_20_50": s.auc_20_50,
            }
        )
    used = {d.partition(":")[0] for d in held.run.config.data}
    for one in reported(source, held.run.config.protocol, held.run.model.pairs):
        same = one.data in used
        note = f"on {one.data.upper()}" + ("" if same else "; other data")
        rows.append({"who": one.who, "kind": "paper", "note": note, "mean" if one.mean else "median": one.mm})
    return {"source": source, "label": label(source), "frames": scores["run"].frames, "rows": rows}


def pck(scores: dict[str, dict[str, Summary]]) -> dict[str, Any]:
    """Curves of every input, and of the baselines of the first."""
    if not scores:
        return {}
    palette = colours(list(scores))
    curves = [{"name": label(s), "colour": palette[s], "values": found["run"].pck} for s, found in scores.items()]
    first = next(iter(scores.values()))
    extra = [{"name": BASELINES.get(n, n), "values": s.pck} for n, s in first.items() if n != "run"]
    return {"thresholds": first["run"].thresholds, "curves": curves + extra}


def joints(held: EvalSet, source: str, s: Summary) -> dict[str, Any]:
    """Error by joint, and by finger as the mean over its joints."""
    one = layout(held.run.metadata.layout)
    fingers = []
    for finger in FINGERS:
        at = list(one.fingers[finger])
        if np.isfinite(s.per_joint_mean[at]).any():
            fingers.append({"name": finger, "mean": np.nanmean(s.per_joint_mean[at]), "colour": one.colour(at[0])})
    return {
        "source": label(source),
        "names": list(one.joints),
        "colours": [one.colour(j) for j in range(len(one))],
        "mean": s.per_joint_mean,
        "median": s.per_joint_median,
        "fingers": fingers,
    }


def training(run: Run) -> dict[str, Any]:
    """The curves of ``metrics.jsonl``, thinned out to what a screen can show."""
    file = run.path / "metrics.jsonl"
    if not file.is_file():
        return {"lacking": f"{file.name} is not in the run folder"}
    steps_: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # half a line, from a kill in the middle of a write
        if not isinstance(record, dict) or "step" not in record:
            continue
        (steps_ if record.get("kind") == "train" else checks).append(record)
    if not steps_:
        return {"lacking": "no step has been logged"}
    steps_ = steps_[:: -(-len(steps_) // CURVE_POINTS)]
    pairs = {str(p): f"{label(p.source)} → {label(p.target)}" for p in run.model.pairs}
    kls = sorted({k for r in steps_ for k in r if k.startswith("kl:")})
    errors = sorted({k for r in checks for k, v in r.items() if isinstance(v, dict)})
    palette = colours(sorted(run.model.modalities))
    return {
        "step": [r["step"] for r in steps_],
        "losses": {name: [r.get(p) for r in steps_] for p, name in pairs.items()},
        "kl": {label(k[3:]): [r.get(k) for r in steps_] for k in kls},
        "kl_colours": {label(k[3:]): palette[k[3:]] for k in kls if k[3:] in palette},
        "checked": [r["step"] for r in checks],
        "epe": {label(k.partition(":")[0]): [r.get(k, {}).get("epe_median_mm") for r in checks] for k in errors},
        "epe_colours": {label(k.partition(":")[0]): palette.get(k.partition(":")[0]) for k in errors},
        "seconds": steps_[-1].get("seconds"),
        "samples_per_second": steps_[-1].get("samples_per_second"),
    }


def thumbs(held: EvalSet, rows: Array, side: int) -> dict[str, Any]:
    """What stands for a hand where a picture is wanted: its picture, or its 2D joints where there is none."""
    for name in ("rgb", "depth"):
        if name in held.run.model.modalities and len(held.having(name)):
            parts = [
                as_bytes(held.to_network_input(name, part).float().numpy())
                for part in np.array_split(rows, -(-len(rows) // 256))
            ]
            return {"sheet": sheet(np.concatenate([resized(p, side) for p in parts]), side)}
    return {"points": flat(held, rows)}


def flat(held: EvalSet, rows: Array) -> Array:
    """2D joints ``(n, J, 2)``, centred and filling [-0.5, 0.5]: those of the picture, or the 3D ones from the front."""
    fields = held.fields_of_joints(rows)
    has2d = "joints2d" in fields and bool(fields["has_joints2d"].all())
    points = (fields["joints2d"] if has2d else torch.from_numpy(held.truth(rows)[..., :2])).numpy()
    low, high = np.nanmin(points, axis=1, keepdims=True), np.nanmax(points, axis=1, keepdims=True)
    return (points - (low + high) / 2) / np.maximum((high - low).max(-1, keepdims=True), 1e-9)


def examples(held: EvalSet, source: str) -> dict[str, Any]:
    """The best and the worst predicted of the held-out hands."""
    rows = held.judged(held.having(source, "joints3d"))
    if not len(rows):
        raise Lacking(f"no held-out sample has both {source} and all 3D joints")
    predicted, truth = held.predict(source, rows), held.truth(rows)
    error = mean_errors(truth, predicted, held.visible(rows))
    order = np.argsort(error, kind="stable")
    few = min(SHOWN, len(order))
    found = {}
    for kind, at in (("best", order[:few]), ("worst", order[::-1][:few])):
        pictures = thumbs(held, rows[at], CARD)
        found[kind] = {
            **pictures,
            "hands": [
                {"row": int(rows[i]), "error": error[i], "truth": truth[i], "predicted": predicted[i]} for i in at
            ],
        }
    return {"source": label(source), "frames": len(rows), **found}


def space(held: EvalSet, separate: Run | None) -> dict[str, Any]:
    """t-SNE of the latent means, a picture of every hand, and how well modalities are told apart."""
    panels = []
    crossed = "Cross-trained" if len(held.inputs) > 1 else label(held.inputs[0])
    for title, by in ((crossed, None), *([("Separately trained", separate)] if separate else [])):
        mine = embed(held, POINTS, by)
        several = len(np.unique(mine.modality)) > 1
        mixed = part(lambda m=mine: mixing(m)) if several else {"lacking": "one modality alone is encoded"}
        panels.append(
            {
                "title": title,
                "at": tsne(mine),
                "modality": mine.modality,
                "row": mine.row,
                "mixing": mixed if isinstance(mixed, dict) else {**vars(mixed)},
            }
        )
    rows = np.unique(np.concatenate([p["row"] for p in panels]))
    place = {int(r): i for i, r in enumerate(rows)}
    for panel in panels:
        panel["thumb"] = [place[int(r)] for r in panel.pop("row")]
    palette = colours(held.inputs)
    return {
        "names": [label(n) for n in held.inputs],
        "colours": [palette[n] for n in held.inputs],
        "panels": panels,
        "rows": rows,
        "thumbs": thumbs(held, rows, THUMB),
    }


def steps(held: EvalSet) -> dict[str, Any]:
    """A latent walk, decoded at every step to 3D joints, 2D joints and a picture, as far as the run does."""
    path = walk(held, WALK_STEPS)
    found: dict[str, Any] = {"source": label(path.source), "ends": path.ends, "from": thumbs(held, path.ends, CARD)}
    if "joints3d" in held.outputs:
        found["joints3d"] = held.decode("joints3d", path.z) * held.scale(path.ends).mean()
    if "joints2d" in held.outputs:
        found["joints2d"] = held.decode("joints2d", path.z)
    for name in ("rgb", "depth"):
        if name in held.outputs:
            found["picture"] = {"label": label(name), **sheet(as_bytes(held.decode(name, path.z)), CARD)}
            break
    if not {"joints3d", "joints2d", "picture"} & set(found):
        raise Lacking(f"nothing of what this run decodes ({', '.join(held.outputs)}) can be shown here")
    return found


def versions(run: Run) -> dict[str, str]:
    """What the run was made with and what the page was made with."""
    known = read_card(run.path / "model.safetensors") if (run.path / "model.safetensors").is_file() else {}
    found = {
        "trained with cvhpe": known.get("cvhpe", "?"),
        "trained with torch": known.get("torch", "?"),
    }
    for name, one in known.get("modalities", {}).items():
        found[f"modality {name}"] = f"{one['plugin']} {one['version']}"
    return found | {
        "report by cvhpe": version("cvhpe"),
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
