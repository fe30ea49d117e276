"""All data of the report, gathered from a run and its held-out samples."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from cvhpe.errors import UserError
from cvhpe.evaluation.eval_set import EvalSet, MissingDataError
from cvhpe.evaluation.latent_space import latent_means, modality_accuracy, tsne
from cvhpe.geometry.skeleton import layout
from cvhpe.runs.run_dir import Run
from cvhpe.runs.serialization import read_metadata
from cvhpe.viz.figures.axes import IMAGE_MODALITIES, primary_input
from cvhpe.viz.figures.latent_interpolation import interpolate_latents
from cvhpe.viz.report.accuracy import (
    EXAMPLE_PX,
    joint_errors,
    metrics_table,
    pck_curves,
    prediction_examples,
    score_inputs,
)
from cvhpe.viz.report.images import sprite_sheet, thumbnails, to_uint8_images
from cvhpe.viz.report.reliability import reliability
from cvhpe.viz.style import display_name, modality_colours

LATENT_HANDS, LATENT_PX = 240, 64
INTERPOLATION_STEPS = 25
CURVE_POINTS = 400


def gather_report(eval_set: EvalSet, unimodal: Run | None) -> dict[str, Any]:
    """Gather the data of the page. A section that the run cannot fill is ``{"left_out": reason}``.

    Args:
        eval_set: The held-out samples of the run.
        unimodal: The unimodal run; None where there is none.

    Returns:
        Section -> its data, numpy arrays included.
    """
    source, scores = primary_input(eval_set), score_inputs(eval_set)

    def from_scores(section: Callable[[], Any], available: bool = source in scores) -> Any:
        if available:
            return _section(section)
        if "joints3d" not in eval_set.outputs:
            return {"left_out": f"this run decodes {', '.join(eval_set.outputs)}, not joints3d"}
        return {"left_out": "no held-out sample has labelled 3D joints"}

    return {
        "run": _run_info(eval_set),
        "skeleton": _skeleton(eval_set),
        "metrics": from_scores(lambda: [metrics_table(eval_set, name, s) for name, s in scores.items()], bool(scores)),
        "training": training_curves(eval_set.run),
        "pck": from_scores(lambda: pck_curves(scores), bool(scores)),
        "joints": from_scores(lambda: joint_errors(eval_set, source, scores[source]["run"])),
        "examples": from_scores(lambda: prediction_examples(eval_set, source)),
        "latents": _section(lambda: _latent_space(eval_set, unimodal)),
        "interpolation": _section(lambda: _interpolation(eval_set)),
        "reliability": from_scores(lambda: reliability(eval_set, source)),
        "config": eval_set.run.config.toml(),
        "versions": _versions(eval_set.run),
    }


def _section(gather: Callable[[], Any]) -> Any:
    """What ``gather`` returns, or why the run cannot give it."""
    try:
        return gather()
    except (MissingDataError, UserError) as error:
        return {"left_out": str(error)}


def _run_info(eval_set: EvalSet) -> dict[str, Any]:
    run = eval_set.run
    return {
        "name": run.path.resolve().name,
        "pairs": [f"{display_name(p.source)} → {display_name(p.target)}" for p in run.model.pairs],
        "data": list(run.config.data),
        "held_out": eval_set.batches.samples,
        "protocol": run.config.protocol,
        "latent": run.config.latent_dim,
        "parameters": sum(p.numel() for p in run.model.parameters()),
    }


def _skeleton(eval_set: EvalSet) -> dict[str, Any]:
    hand = layout(eval_set.run.metadata.layout)
    return {"bones": [list(b) for b in hand.bones], "colours": [hand.colour(j) for j in range(len(hand))]}


def training_curves(run: Run) -> dict[str, Any]:
    """The curves of ``metrics.jsonl``, thinned to at most :data:`CURVE_POINTS` steps."""
    file = run.path / "metrics.jsonl"
    if not file.is_file():
        return {"left_out": f"{file.name} is not in the run folder"}
    steps: list[dict[str, Any]] = []
    validations: list[dict[str, Any]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # incomplete: the run was killed while it wrote the line
        if isinstance(record, dict) and "step" in record:
            (steps if record.get("kind") == "train" else validations).append(record)
    if not steps:
        return {"left_out": "no step has been logged"}
    steps = steps[:: -(-len(steps) // CURVE_POINTS)]
    palette = modality_colours(sorted(run.model.modalities))
    kls = sorted({k[3:] for r in steps for k in r if k.startswith("kl:")})
    pairs = sorted({k for r in validations for k, v in r.items() if isinstance(v, dict)})
    sources = {p: p.partition(":")[0] for p in pairs}
    return {
        "step": [r["step"] for r in steps],
        "losses": {
            f"{display_name(p.source)} → {display_name(p.target)}": [r.get(str(p)) for r in steps]
            for p in run.model.pairs
        },
        "kl": {display_name(k): [r.get(f"kl:{k}") for r in steps] for k in kls},
        "kl_colours": {display_name(k): palette[k] for k in kls if k in palette},
        "validated": [r["step"] for r in validations],
        "epe": {display_name(s): [r.get(p, {}).get("epe_median_mm") for r in validations] for p, s in sources.items()},
        "epe_colours": {display_name(s): palette.get(s) for s in sources.values()},
        "seconds": steps[-1].get("seconds"),
        "samples_per_second": steps[-1].get("samples_per_second"),
    }


def _latent_space(eval_set: EvalSet, unimodal: Run | None) -> dict[str, Any]:
    """t-SNE of the latent means, a thumbnail of every hand, and modality classification accuracies."""
    title = "Cross-modal training" if len(eval_set.inputs) > 1 else display_name(eval_set.inputs[0])
    panels = []
    for name, run in ((title, None), *([("Unimodal training", unimodal)] if unimodal else [])):
        space = latent_means(eval_set, LATENT_HANDS, run)
        if len(np.unique(space.modality)) > 1:
            accuracy = _section(lambda s=space: vars(modality_accuracy(s)))  # type: ignore[misc]
        else:
            accuracy = {"left_out": "only one modality is encoded"}
        panels.append(
            {"title": name, "at": tsne(space), "modality": space.modality, "row": space.row, "accuracy": accuracy}
        )
    rows = np.unique(np.concatenate([p["row"] for p in panels]))
    for panel in panels:
        panel["thumbnail"] = np.searchsorted(rows, panel.pop("row"))
    palette = modality_colours(eval_set.inputs)
    return {
        "names": [display_name(n) for n in eval_set.inputs],
        "colours": [palette[n] for n in eval_set.inputs],
        "panels": panels,
        "rows": rows,
        "thumbnails": thumbnails(eval_set, rows, LATENT_PX),
    }


def _interpolation(eval_set: EvalSet) -> dict[str, Any]:
    """A latent interpolation, decoded to 3D joints, 2D joints and an image as far as the run decodes them."""
    line = interpolate_latents(eval_set, INTERPOLATION_STEPS)
    decoded: dict[str, Any] = {}
    if "joints3d" in eval_set.outputs:
        decoded["joints3d"] = eval_set.decode("joints3d", line.z) * eval_set.scale_mm(line.ends).mean()
    if "joints2d" in eval_set.outputs:
        decoded["joints2d"] = eval_set.decode("joints2d", line.z)
    image = next((n for n in IMAGE_MODALITIES if n in eval_set.outputs), None)
    if image:
        sheet = sprite_sheet(to_uint8_images(eval_set.decode(image, line.z)), EXAMPLE_PX)
        decoded["image"] = {"label": display_name(image), **sheet}
    if not decoded:
        raise MissingDataError(f"nothing that this run decodes ({', '.join(eval_set.outputs)}) can be shown here")
    ends = {"ends": line.ends, "inputs": thumbnails(eval_set, line.ends, EXAMPLE_PX)}
    return {"source": display_name(line.source), **ends, **decoded}


def _versions(run: Run) -> dict[str, str]:
    """The versions that trained the run and that wrote the report."""
    weights = run.path / "model.safetensors"
    trained = read_metadata(weights) if weights.is_file() else {}
    return {
        "trained with cvhpe": trained.get("cvhpe", "?"),
        "trained with torch": trained.get("torch", "?"),
        **{f"modality {n}": f"{m['plugin']} {m['version']}" for n, m in trained.get("modalities", {}).items()},
        "report by cvhpe": version("cvhpe"),
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
