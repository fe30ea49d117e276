"""``cvhpe evaluate``: a run's error on held-out data, beside the baselines'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cvhpe.config.lists import comma_list

if TYPE_CHECKING:
    from cvhpe.data.packing.pack import Pack
    from cvhpe.runs.run_dir import Run


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; by default the run's own.")] = None,
    source: Annotated[str | None, typer.Option("--from", help="Input, or several to fuse, as rgb,joints2d.")] = None,
    target: Annotated[str, typer.Option("--to", help="Target modality.")] = "joints3d",
    protocol: Annotated[str | None, typer.Option(help="T, TS, TH or TSH; by default the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Which split; by default what was held out.")] = "",
    tta: Annotated[
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

    Example: cvhpe evaluate runs/rgb --tta 8

    Example: cvhpe evaluate --predictions results.txt --data icvl:ICVL
    """
    from cvhpe.errors import UserError, nearest

    if predictions is not None:
        from cvhpe.cli.predictions import evaluate_predictions

        if run is not None:
            raise UserError(f"{run} and --predictions {predictions}: score one of them at a time")
        if tta:
            raise UserError("--tta: predictions in a file cannot be made of another view; leave it out")
        evaluate_predictions(predictions, data or [], split, as_json)
        return
    if run is None:
        raise UserError("evaluate what? name a run folder, or a file with --predictions")
    import json

    from cvhpe.cli.console import Console, data_of
    from cvhpe.cli.scores import score, show
    from cvhpe.config.schema import PROTOCOLS
    from cvhpe.evaluation.evaluate import as_json as to_json
    from cvhpe.runs.run_dir import load_run
    from cvhpe.training.datamodule import open_held_out, pack_notes

    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"--protocol {protocol}: {nearest(protocol, PROTOCOLS)}")
    opened = load_run(run)
    with Console() as console:
        sources = data_of(opened, data)
        packs = open_held_out(opened.config, sources, split, console.preparing)
        names = comma_list(source or "")
        notes = [*pack_notes(packs), *remarks(opened, sources, packs, names)]
        for note in notes:
            console.note(note)
    scores = score(opened, packs, source, target, protocol, tta)
    if not as_json:
        show(scores, tta)
        return
    record = to_json(opened, scores.model, source=scores.source, target=target, protocol=scores.protocol)
    record["notes"], record["tta"] = notes, tta
    record["baselines"] = {
        n: {"epe_mean_mm": s.epe_mean, "epe_median_mm": s.epe_median, "auc_20_50": s.auc_20_50}
        for n, s in scores.baselines.items()
    }
    if scores.alone:
        record["weights"] = dict(scores.weights)
        record["alone"] = {
            n: {"epe_mean_mm": s.epe_mean, "epe_median_mm": s.epe_median} for n, s in scores.alone.items()
        }
    if target == "joints3d" and scores.protocol == opened.config.protocol and not tta:
        record |= uncertainty(opened, packs, comma_list(scores.source))
    typer.echo(json.dumps(record))


def remarks(run: Run, sources: list[str], packs: list[Pack], names: list[str]) -> list[str]:
    """What must be known of a score: a fusion that nobody measured, or frames that had a say in what they judge.

    sources: what the packs are of. names: the inputs; none where the run's only one is meant.
    """
    from cvhpe.training.datamodule import open_held_out, resolve_source, same_samples
    from cvhpe.uncertainty.fusion import calibration_of, uncalibrated_warning

    calibration = calibration_of(run.metadata.training)
    told = [said] if (said := uncalibrated_warning(calibration, names)) else []
    if calibration is None or calibration.told_by(names or ["one"]) != "validation":
        return told
    for source, pack in zip(sources, packs, strict=True):
        if source not in run.config.data or "val" not in resolve_source(source, run.config)[0].splits:
            continue
        (validation,) = open_held_out(run.config, [source], "val")
        if same_samples(pack, validation):
            what = "how wide samples are and how inputs are fused" if len(names) > 1 else "how wide samples are"
            told.append(f"{source}: scored on the run's validation frames, which told {what}")
    return told


def uncertainty(run: Run, packs: list[Pack], names: list[str]) -> dict[str, Any]:
    """FusionParams often the run's calibrated regions hold the truth; nothing for inputs that were never calibrated."""
    from cvhpe.uncertainty.calibration import covered
    from cvhpe.uncertainty.coverage import LEVELS
    from cvhpe.uncertainty.fusion import calibration_of

    calibration = calibration_of(run.metadata.training)
    width = calibration.width(names) if calibration else None
    if calibration is None or width is None:
        return {}
    found = dict(zip((f"{100 * level:g}" for level in LEVELS), covered(run, packs, names, width), strict=True))
    return {
        "coverage": found,
        "width": {"scale": width.scale, "dof": width.dof, "found_on": calibration.told_by(names)},
    }
