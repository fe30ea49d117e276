"""``cvhpe evaluate``: the errors of a run and of the baselines on held-out data."""

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
    data: Annotated[list[str] | None, typer.Option(help="NAME or NAME:PATH; default: the run's own.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Input modality, or several to fuse, as in rgb,joints2d.")
    ] = None,
    target: Annotated[str, typer.Option("--to", help="Target modality.")] = "joints3d",
    protocol: Annotated[str | None, typer.Option(help="T, TS, TH or TSH; default: the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Split of the data; default: what was held out.")] = "",
    tta: Annotated[
        int,
        typer.Option(min=0, max=64, help="Number of rotations for test-time augmentation, each also flipped; 0: none."),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Score a file instead of a run: one line a frame, with u v depth of every joint."),
    ] = None,
) -> None:
    """Evaluate a run on held-out data and compare it with the mean pose and linear regression.

    Example: cvhpe evaluate runs/lift --data joints:hands.npz --from joints2d --protocol TSH --json

    Example: cvhpe evaluate runs/both --from rgb,joints2d

    Example: cvhpe evaluate runs/rgb --tta 8

    Example: cvhpe evaluate --predictions results.txt --data icvl:ICVL
    """
    from cvhpe.errors import UserError, nearest

    if predictions is not None:
        from cvhpe.cli.predictions import evaluate_predictions

        if run is not None:
            raise UserError(f"{run} and --predictions {predictions}: evaluate one of them at a time")
        if tta:
            raise UserError("--tta: needs a run; predictions in a file are fixed")
        evaluate_predictions(predictions, data or [], split, as_json)
        return
    if run is None:
        raise UserError("nothing to evaluate: give a run folder, or a file with --predictions")
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
        notes = [*pack_notes(packs), *calibration_warnings(opened, sources, packs, names)]
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


def calibration_warnings(run: Run, sources: list[str], packs: list[Pack], names: list[str]) -> list[str]:
    """Warnings: the fusion of the inputs ``names`` is not calibrated, or the calibration was fitted on these frames."""
    from cvhpe.training.datamodule import open_held_out, resolve_source, same_samples
    from cvhpe.uncertainty.fusion import calibration_of, uncalibrated_warning

    calibration = calibration_of(run.metadata.training)
    warnings = [text] if (text := uncalibrated_warning(calibration, names)) else []
    if calibration is None or calibration.fitted_on(names or ["one"]) != "validation":
        return warnings
    for source, pack in zip(sources, packs, strict=True):
        if source not in run.config.data or "val" not in resolve_source(source, run.config)[0].splits:
            continue
        (validation,) = open_held_out(run.config, [source], "val")
        if same_samples(pack, validation):
            what = "the calibration and the fusion were" if len(names) > 1 else "the calibration was"
            warnings.append(f"{source}: evaluated on the run's validation frames, on which {what} fitted")
    return warnings


def uncertainty(run: Run, packs: list[Pack], names: list[str]) -> dict[str, Any]:
    """Coverage of the credible regions, and the calibration; empty for inputs without calibration."""
    from cvhpe.uncertainty.calibration import measure_coverage
    from cvhpe.uncertainty.coverage import LEVELS
    from cvhpe.uncertainty.fusion import calibration_of

    calibration = calibration_of(run.metadata.training)
    scaling = calibration.scaling(names) if calibration else None
    if calibration is None or scaling is None:
        return {}
    shares = dict(
        zip((f"{100 * level:g}" for level in LEVELS), measure_coverage(run, packs, names, scaling), strict=True)
    )
    return {
        "coverage": shares,
        "sample_scaling": {"scale": scaling.scale, "dof": scaling.dof, "fitted_on": calibration.fitted_on(names)},
    }
