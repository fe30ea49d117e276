"""Makes the model that ships with the package: 2D -> 3D joints, trained on synthetic poses alone.

    python benchmarks/make_default.py --work runs/default --out cvhpe/weights/default.safetensors

No real pose is used, so the file is free of every data set's terms, and all real frames of `--score` (any `--data` of
`cvhpe evaluate`) are held out:

    python benchmarks/make_default.py --score joints:rhd_evaluation.npz --score stb:STB

It also reports the share of their joints inside the model's credible regions. The scaling of the samples is fitted on
synthetic hands that are not in the training, with the same keypoint noise; `--calibrate` fits it again.

Two thirds of the poses are rooted in the wrist, as detectors label it, and become palms halfway to the middle knuckle;
one third has a palm point where a data set might label it. Half of the hands have keypoint noise, as a detector's
would.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from cvhpe.augmentation.views import add_keypoint_noise
from cvhpe.cli.scores import score_run, show
from cvhpe.config.schema import checked
from cvhpe.runs import serialization
from cvhpe.runs.run_dir import load_run
from cvhpe.synthetic import poses
from cvhpe.training.callbacks import Reporter
from cvhpe.training.datamodule import open_data, open_held_out
from cvhpe.training.trainer import train
from cvhpe.uncertainty.calibration import calibrate, measure_coverage
from cvhpe.uncertainty.coverage import LEVELS
from cvhpe.uncertainty.fusion import CALIBRATION, calibration_of
from cvhpe.uncertainty.sample_scaling import UNSCALED

SETTINGS: dict[str, Any] = {
    "modalities": ["joints2d", "joints3d"],
    "pairs": ["joints2d:joints3d"],
    "joint_network": "lifter",
    "joint_loss": "l2",
    "hidden_dim": 304,
    "num_hidden_layers": 4,
    "latent_dim": 30,
    "batch_size": 128,
    "lr": 2e-3,
    "schedule": "cosine",
    "warmup_fraction": 0.1,
    "ema_decay": 0.998,
    "clip_norm": 1.0,
    "epochs": 1,
    "num_validations": 12,
    "augmentation": {"rotation_deg": 180.0, "shift": 0.02, "scale": 0.05, "keypoint_noise_px": 3.0},
    "device": "cpu",
}
HELD_OUT = 2000
TTA_ANGLES = 4
"""Rotations of a hand, each flipped as well, whose disagreement scales the samples
(:mod:`cvhpe.uncertainty.tta_disagreement`)."""


def write_poses(path: Path, count: int, seed: int, root: str, keypoint_noise_px: float = 0.0) -> None:
    """A joints file of ``count`` synthetic hands, the last :data:`HELD_OUT` of them for validation."""
    hands = poses(count, seed, root=root)  # type: ignore[arg-type]
    split = np.where(np.arange(count) < count - HELD_OUT, "train", "val")
    if keypoint_noise_px:
        uv, one_pixel_crops = torch.from_numpy(hands["joints2d_px"]), torch.ones(count, 3)
        generator = torch.Generator().manual_seed(seed)
        hands["joints2d_px"] = add_keypoint_noise(uv, one_pixel_crops, keypoint_noise_px, generator, count).numpy()
    np.savez(path, layout="hand21", root=root, split=split, **hands)


def calibrate_model(model: Path, work: Path, seed: int) -> None:
    """Fit the scaling of a model file's samples on synthetic hands of their own, and write it into the file."""
    names = []
    for number, root in enumerate(("wrist", "wrist", "palm")):
        path = work / f"fresh-{number}-{root}.npz"
        write_poses(path, HELD_OUT, 1000 * seed + 500 + number, root, SETTINGS["augmentation"]["keypoint_noise_px"])
        names.append(f"joints:{path}")
    run = load_run(model)
    calibration = calibrate(run, open_held_out(run.config, names, "val"), TTA_ANGLES)
    assert calibration is not None
    metadata = serialization.read_metadata(model)
    metadata["metadata"]["training"][CALIBRATION] = calibration.as_dict()
    serialization.save(model, serialization.read_tensors(model), metadata)
    typer.echo(f"samples: {calibration.scalings}")


def main(
    work: Annotated[Path, typer.Option(help="Folder for the poses and the run.")] = Path("runs/default"),
    out: Annotated[Path, typer.Option(help="The model file to write.")] = Path("cvhpe/weights/default.safetensors"),
    count: Annotated[int, typer.Option(help="Number of poses.")] = 240_000,
    steps: Annotated[int, typer.Option(help="Steps of 128 hands.")] = 5_000,
    seed: int = 0,
    threads: int = 2,
    score: Annotated[list[str] | None, typer.Option(help="NAME[:PATH] of real data: score the model, and end.")] = None,
    calibrate_only: Annotated[
        bool, typer.Option("--calibrate", help="Calibrate the model that is there, and end.")
    ] = False,
) -> None:
    """Sample the poses, train, and write the model into the package; or score or calibrate the one that is there."""
    if score:
        run = load_run(out)
        for source in score:
            typer.echo(source)
            packs = open_held_out(run.config, [source], "")
            for table in score_run(run, packs):
                show(table)
            calibration = calibration_of(run.metadata.training)
            width = calibration.scaling(["joints2d"]) if calibration else None
            coverage = measure_coverage(run, packs, ["joints2d"], width or UNSCALED)
            shares = ", ".join(f"{share:.1%} of {level:.0%}" for level, share in zip(LEVELS, coverage, strict=True))
            typer.echo(f"joints inside their credible regions: {shares}")
        return
    out, work = out.resolve(), work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if calibrate_only:
        calibrate_model(out, work, seed)
        return
    os.chdir(work)  # the model file keeps the configuration, with relative names of the data
    data = {"wrist": 2 * count // 3, "palm": count // 3}
    for number, (root, many) in enumerate(data.items()):
        write_poses(Path(f"{root}.npz"), many, 1000 * seed + number, root)
    names = [f"joints:{root}.npz" for root in data]
    config = checked({**SETTINGS, "data": names, "min_steps": steps, "seed": seed, "threads": threads})
    shutil.rmtree("run", ignore_errors=True)

    def print_validation(record: dict[str, Any]) -> None:
        typer.echo(f"step {record['step']}: held-out median EPE {record['score']:.2f} mm")

    train(config, open_data(config), Path("run"), report=Reporter(validation=print_validation))
    metadata = serialization.read_metadata(Path("run/model.safetensors"))
    out.parent.mkdir(parents=True, exist_ok=True)
    serialization.save(out, serialization.read_tensors(Path("run/model.safetensors")), metadata)
    calibrate_model(out, work, seed)
    typer.echo(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    typer.run(main)
