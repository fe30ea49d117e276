"""What noise on the 2D joints does to a run's predictions on held-out frames, and the coverage of its samples.

    python benchmarks/robustness.py RUN [--data joints:rhd_evaluation_a.npz] [--px 1]

Noise: Gaussian, in pixels of the frame, on every 2D joint, at test time only. Coverage: the share of joints inside
their 50, 80 and 95 % credible regions (:mod:`cvhpe.uncertainty.coverage`), for samples as the network gives them and as
the run's calibration rescales them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from cvhpe.data.loader import Batches
from cvhpe.data.packing.pack import Pack
from cvhpe.evaluation.evaluate import palm_of, predict
from cvhpe.evaluation.metrics import summary
from cvhpe.runs.run_dir import Run, load_run, model_fields
from cvhpe.training.datamodule import open_held_out
from cvhpe.uncertainty.calibration import measure_coverage
from cvhpe.uncertainty.coverage import LEVELS
from cvhpe.uncertainty.fusion import calibration_of
from cvhpe.uncertainty.sample_scaling import UNSCALED


def noisy(batches: Batches, px: float, seed: int) -> Iterator[Mapping[str, Tensor]]:
    """The batches with ``px`` pixels of Gaussian noise on their 2D joints, which are crop fractions."""
    generator = torch.Generator().manual_seed(seed)
    for fields in batches.epoch(0):
        noise = torch.randn(fields["joints2d"].shape, generator=generator) * px / fields["crop"][:, None, 2:]
        yield {**fields, "joints2d": fields["joints2d"] + noise}


def median_mm(run: Run, packs: list[Pack], source: str, px: float, seed: int) -> float:
    """Median EPE of ``source`` -> 3D with noise."""
    batches = Batches(packs, model_fields(run.config), 256, seed=0, shuffle=False)
    predictions = predict(
        run.model,
        noisy(batches, px, seed),
        source,
        protocol=run.config.protocol,
        mean_scale_mm=run.metadata.mean_scale_mm,
        margin=batches.margin,
        palm=palm_of(run.metadata.layout),
    )
    return summary(predictions.predicted, predictions.truth, predictions.visible).epe_median


def main(
    path: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run that lifts 2D joints, or what is derived of them.")
    ],
    data: Annotated[list[str] | None, typer.Option(help="NAME:PATH; by default the run's own.")] = None,
    px: Annotated[float, typer.Option(help="Standard deviation of the noise, pixels.")] = 1.0,
    repeats: Annotated[int, typer.Option(help="Number of noise seeds.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The median EPE with and without noise, and the coverage with and without the run's calibration."""
    run = load_run(path)
    packs = open_held_out(run.config, data or run.config.data, "")
    source = next(p.source for p in run.model.pairs if p.target == "joints3d" and p.source != "joints3d")
    clean = median_mm(run, packs, source, 0.0, 0)
    with_noise = float(np.mean([median_mm(run, packs, source, px, seed) for seed in range(repeats)]))
    result: dict[str, Any] = {"clean_mm": clean, "noisy_mm": with_noise, "px": px, "levels": list(LEVELS)}
    result["covered_as_trained"] = measure_coverage(run, packs, [source], UNSCALED)
    calibration = calibration_of(run.metadata.training)
    scaling = calibration.scaling([source]) if calibration else None
    if calibration and scaling:
        result["covered"] = measure_coverage(run, packs, [source], scaling)
        result |= {"scale": scaling.scale, "dof": scaling.dof, "calibrated_on": calibration.split}
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(f"median EPE {clean:.2f} mm; with {px:g} px of noise {with_noise:.2f} ({with_noise / clean - 1:+.1%})")
    typer.echo(f"coverage as trained: {shares(result['covered_as_trained'])}")
    if calibration and scaling:
        fit = f"scale {scaling.scale:.2f}, {scaling.dof:g} degrees of freedom, fitted on {calibration.split} hands"
        typer.echo(f"coverage calibrated ({fit}): {shares(result['covered'])}")


def shares(coverage: list[float]) -> str:
    """``50%: 49.1%`` and so on."""
    return ", ".join(f"{level:.0%}: {share:.1%}" for level, share in zip(LEVELS, coverage, strict=True))


if __name__ == "__main__":
    typer.run(main)
