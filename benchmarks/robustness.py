"""What noise on the 2D joints and the width of the posterior do to a lifter's predictions on held-out frames.

    python benchmarks/robustness.py RUN [--data joints:rhd_evaluation_a.npz] [--px 1]

Noise: Gaussian, in pixels of the frame, on every 2D joint, at test time alone. Coverage: how many joints lie within
the 50, 80 and 95 % quantiles of the distances of 64 posterior samples from their mean prediction, spread by the
factor that the run's calibration found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from cvhpe.calibrate import gather, joints_mm
from cvhpe.data.loader import Batches
from cvhpe.data.pack import Pack
from cvhpe.data.sources import open_held_out
from cvhpe.evaluate import palm_of, predict
from cvhpe.fusion import calibration_of, draw
from cvhpe.metrics import summary
from cvhpe.run import Run, load_run, model_fields

LEVELS = (0.5, 0.8, 0.95)
SAMPLES = 64


def noisy(batches: Batches, px: float, seed: int) -> Iterator[Mapping[str, Tensor]]:
    """The batches with ``px`` pixels of Gaussian noise on their 2D joints, which are crop fractions."""
    generator = torch.Generator().manual_seed(seed)
    for fields in batches.epoch(0):
        noise = torch.randn(fields["joints2d"].shape, generator=generator) * px / fields["crop"][:, None, 2:]
        yield {**fields, "joints2d": fields["joints2d"] + noise}


def median_mm(run: Run, packs: list[Pack], px: float, seed: int) -> float:
    """Median EPE of 2D -> 3D with noise."""
    batches = Batches(packs, model_fields(run.config), 256, seed=0, shuffle=False)
    got = predict(
        run.model,
        noisy(batches, px, seed),
        "joints2d",
        protocol=run.config.protocol,
        mean_scale_mm=run.facts.mean_scale_mm,
        margin=batches.margin,
        palm=palm_of(run.facts.layout),
    )
    return summary(got.predicted, got.truth, got.visible).epe_median


def coverage(run: Run, packs: list[Pack], factor: float) -> list[float]:
    """Share of the visible joints inside each of :data:`LEVELS`, the root joint left out."""
    held = gather(run, packs, ["joints2d"])
    if held is None:
        raise SystemExit("no held-out frame has 2D and 3D joints")
    posterior = held.posteriors["joints2d"]
    with torch.inference_mode():
        mean = joints_mm(run, posterior.mu, held.scale)
        drawn = draw(posterior, SAMPLES, torch.Generator().manual_seed(0))
        distance = factor * (joints_mm(run, drawn, held.scale) - mean).norm(dim=-1)
    counted = held.visible.clone()
    counted[:, palm_of(run.facts.layout).root] = False
    error = (mean - held.truth).norm(dim=-1)
    radii = torch.quantile(distance, torch.tensor(LEVELS), dim=0)
    return [float((error <= radius)[counted].float().mean()) for radius in radii]


def main(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run that lifts joints2d to joints3d.")],
    data: Annotated[list[str] | None, typer.Option(help="NAME:PATH; by default the run's own.")] = None,
    px: Annotated[float, typer.Option(help="Standard deviation of the noise, pixels.")] = 1.0,
    draws: Annotated[int, typer.Option(help="How often noise is drawn.")] = 5,
) -> None:
    """Print the median EPE with and without noise, and the coverage with the run's calibration and without."""
    run = load_run(path)
    packs = open_held_out(run.config, data or run.config.data, "")
    clean = median_mm(run, packs, 0.0, 0)
    found = np.array([median_mm(run, packs, px, seed) for seed in range(draws)])
    typer.echo(
        f"median EPE {clean:.2f} mm; with {px:g} px of noise {found.mean():.2f} ({found.mean() / clean - 1:+.1%})"
    )
    calibration = calibration_of(run.facts.training)
    factors = {"as trained": 1.0}
    if calibration is not None:
        factors["calibrated"] = calibration.spread["joints2d"]
    for name, factor in factors.items():
        shares = ", ".join(f"{p:.0%}: {s:.1%}" for p, s in zip(LEVELS, coverage(run, packs, factor), strict=True))
        typer.echo(f"coverage {name} (factor {factor:.2f}): {shares}")


if __name__ == "__main__":
    typer.run(main)
