"""``cvhpe evaluate``: a run's error on held-out data, beside the baselines'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cvhpe.data.pack import Pack
    from cvhpe.fusion import How
    from cvhpe.metrics import Summary
    from cvhpe.run import Run


@dataclass
class Scores:
    """One evaluation: the model and the baselines on the same frames.

    source: the input, or several joined by commas, fused; ``weights`` are then those of the inputs, and ``alone`` is
    each by itself.
    """

    source: str
    target: str
    protocol: str
    model: Summary
    baselines: dict[str, Summary]
    alone: dict[str, Summary] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


def score(run: Run, packs: list[Pack], source: str | None, target: str, protocol: str | None, turns: int = 0) -> Scores:
    """Evaluate ``source -> target`` under a protocol on packed samples; several sources are joined by commas.

    turns: above 0, every hand is looked at so often, turned, and mirrored as well (:mod:`cvhpe.turns`).
    """
    from cvhpe.data.loader import Batches
    from cvhpe.errors import UserError
    from cvhpe.evaluate import baseline_summaries, check_request, palm_of, predict
    from cvhpe.fusion import How, calibration_of, how_of
    from cvhpe.metrics import summary
    from cvhpe.turns import AS_IT_IS, turned

    names = list(dict.fromkeys(name.strip() for name in source.split(",") if name.strip())) if source else [None]
    checked = [check_request(run, name, target, protocol) for name in names]
    names, protocol = [name for name, _ in checked], checked[0][1]
    other = sorted({p.layout for p in packs} - {run.facts.layout})
    if other:
        raise UserError(f"{run.path}: trained on layout {run.facts.layout}, the data has {other[0]}: other joints")
    reads = tuple(field for name in names for field in run.model.modalities[name].reads)
    fields = tuple(sorted({*reads, "joints3d", "joints2d"}))
    palm = palm_of(run.facts.layout)
    common: dict[str, Any] = {"protocol": protocol, "mean_scale_mm": run.facts.mean_scale_mm, "palm": palm}
    batches = Batches(packs, fields, 256, seed=0, shuffle=False)
    views = turned(run.config.augmentation, turns) if turns else [AS_IT_IS]

    def of(inputs: list[str], how: How) -> Summary:
        rows = batches.epoch(0)
        got = predict(run.model, rows, inputs, margin=batches.margin, how=how, among=names, views=views, **common)
        return summary(got.predicted, got.truth, got.visible)

    lifted = "joints2d" if "joints2d" in names else names[0]
    baselines = baseline_summaries(run.baselines, batches.epoch(0), lifted, reads, **common)
    how = how_of(calibration_of(run.facts.training), names) if len(names) > 1 else How()
    alone = {name: of([name], {}) for name in names} if len(names) > 1 else {}
    return Scores(",".join(names), target, protocol, of(names, how), baselines, alone, how.get("weights", {}))


def score_run(run: Run, packs: list[Pack]) -> Iterator[Scores]:
    """Every input of the run that is turned into 3D joints, under the run's own protocol."""
    from cvhpe.pairs import sources, targets

    if "joints3d" not in targets(run.model.pairs):
        return
    for source in sources(run.model.pairs):
        yield score(run, packs, source, "joints3d", None)


def show(scores: Scores, turns: int = 0) -> None:
    """Print one evaluation as a table; ``turns`` is said in its title."""
    from cvhpe.cli.console import plain_table, to_stdout, within

    rows = []
    alone = {f"{name} alone": s for name, s in scores.alone.items()}
    for name, s in {**alone, "fused" if alone else "this run": scores.model, **scores.baselines}.items():
        share = s.epe_median / scores.baselines["mean_pose"].epe_median if "mean_pose" in scores.baselines else None
        cells = (s.epe_median, s.epe_mean, s.pa_mpjpe)
        rows.append(
            [
                {"mean_pose": "mean pose", "regression": "linear regression"}.get(name, name),
                *(f"{x:.2f}" for x in cells),
                f"{s.auc_0_50:.3f}",
                f"{s.auc_20_50:.3f}",
                "" if share is None else f"{100 * share:.0f} %",
            ]
        )
    source = " + ".join(scores.source.split(","))
    title = f"{source} to {scores.target}, protocol {scores.protocol}, {scores.model.frames} held-out frames"
    title += f", each turned {turns} ways" if turns else ""
    columns = ["", "median EPE mm", "mean EPE mm", "PA-MPJPE mm", "AUC 0-50", "AUC 20-50", "of mean pose"]
    to_stdout().print(plain_table(title, columns, rows))
    to_stdout().print(within(scores.model), highlight=False, soft_wrap=True, markup=False)


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; by default the run's own.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Input, or several to fuse, as rgb,joints2d.")] = None,
    target: Annotated[str, typer.Option("--to", help="Target modality.")] = "joints3d",
    protocol: Annotated[str | None, typer.Option(help="T, TS, TH or TSH; by default the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Which split; by default what was held out.")] = "",
    turns: Annotated[
        int,
        typer.Option(min=0, max=64, help="Predict the mean over a hand turned so often, and mirrored."),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Score this file instead of a run: u v depth of every joint, a line a frame.")
    ] = None,
) -> None:
    """Score a trained run on held-out data, beside the mean pose and linear regression.

    Example: cvhpe evaluate runs/lift --data joints:hands.npz --from joints2d --protocol TSH --json

    Example: cvhpe evaluate runs/both --from rgb,joints2d

    Example: cvhpe evaluate runs/rgb --turns 8

    Example: cvhpe evaluate --predictions results.txt --data icvl:ICVL
    """
    from cvhpe.errors import UserError, nearest

    if predictions is not None:
        from cvhpe.cli.predictions import evaluate_predictions

        if run is not None:
            raise UserError(f"{run} and --predictions {predictions}: score one of them at a time")
        if turns:
            raise UserError("--turns: predictions in a file cannot be made of another view; leave it out")
        evaluate_predictions(predictions, data or [], split, as_json)
        return
    if run is None:
        raise UserError("evaluate what? name a run folder, or a file with --predictions")
    import json

    from cvhpe.cli.console import Console, its_data
    from cvhpe.config import PROTOCOLS
    from cvhpe.data.sources import open_held_out, remarked
    from cvhpe.evaluate import as_json as to_json
    from cvhpe.run import load_run

    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"--protocol {protocol}: {nearest(protocol, PROTOCOLS)}")
    opened = load_run(run)
    with Console() as console:
        sources = its_data(opened, data)
        packs = open_held_out(opened.config, sources, split, console.preparing)
        names = [name.strip() for name in (source or "").split(",") if name.strip()]
        notes = [*remarked(packs), *remarks(opened, sources, packs, names)]
        for note in notes:
            console.note(note)
    scores = score(opened, packs, source, target, protocol, turns)
    if not as_json:
        show(scores, turns)
        return
    record = to_json(opened, scores.model, source=scores.source, target=target, protocol=scores.protocol)
    record["notes"], record["turns"] = notes, turns
    record["baselines"] = {
        n: {"epe_mean_mm": s.epe_mean, "epe_median_mm": s.epe_median, "auc_20_50": s.auc_20_50}
        for n, s in scores.baselines.items()
    }
    if scores.alone:
        record["weights"] = dict(scores.weights)
        record["alone"] = {
            n: {"epe_mean_mm": s.epe_mean, "epe_median_mm": s.epe_median} for n, s in scores.alone.items()
        }
    if target == "joints3d" and scores.protocol == opened.config.protocol and not turns:
        record |= uncertainty(opened, packs, scores.source.split(","))
    typer.echo(json.dumps(record))


def remarks(run: Run, sources: list[str], packs: list[Pack], names: list[str]) -> list[str]:
    """What must be known of a score: a fusion that nobody measured, or frames that had a say in what they judge.

    sources: what the packs are of. names: the inputs; none where the run's only one is meant.
    """
    from cvhpe.data.sources import open_held_out, parse, same_samples
    from cvhpe.fusion import calibration_of, unmeasured

    calibration = calibration_of(run.facts.training)
    told = [said] if (said := unmeasured(calibration, names)) else []
    if calibration is None or calibration.told_by(names or ["one"]) != "validation":
        return told
    for source, pack in zip(sources, packs, strict=True):
        if source not in run.config.data or "val" not in parse(source, run.config)[0].splits:
            continue
        (validation,) = open_held_out(run.config, [source], "val")
        if same_samples(pack, validation):
            what = "how wide samples are and how inputs are fused" if len(names) > 1 else "how wide samples are"
            told.append(f"{source}: scored on the run's validation frames, which told {what}")
    return told


def uncertainty(run: Run, packs: list[Pack], names: list[str]) -> dict[str, Any]:
    """How often the run's calibrated regions hold the truth; nothing for inputs that were never calibrated."""
    from cvhpe.calibrate import covered
    from cvhpe.fusion import calibration_of
    from cvhpe.regions import LEVELS

    calibration = calibration_of(run.facts.training)
    width = calibration.width(names) if calibration else None
    if calibration is None or width is None:
        return {}
    found = dict(zip((f"{100 * level:g}" for level in LEVELS), covered(run, packs, names, width), strict=True))
    return {
        "coverage": found,
        "width": {"scale": width.scale, "dof": width.dof, "found_on": calibration.told_by(names)},
    }
