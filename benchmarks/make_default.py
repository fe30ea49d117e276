"""Make the model that ships with the package: 2D -> 3D joints, trained on synthetic poses alone.

    python benchmarks/make_default.py --work runs/default --out cvhpe/models/default.safetensors

No real pose is seen, so the file is free of every data set's terms, and the real frames that `--score`
names (any `--data` of `cvhpe evaluate`) are held out in full:

    python benchmarks/make_default.py --score joints:rhd_evaluation.npz --score stb:STB

Two thirds of the poses are rooted in the wrist, as detectors label it, and become palms half way to the
middle knuckle; one third has a palm point where a data set might have put it. Half of the hands are seen with
pixel noise, as a detector's would be.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cvhpe import checkpoint
from cvhpe.cli.evaluate import score_run, show
from cvhpe.config import checked
from cvhpe.data.sources import open_data, open_held_out
from cvhpe.data.synthetic import poses
from cvhpe.run import load_run
from cvhpe.train import Reporter, train

SETTINGS: dict[str, Any] = {
    "modalities": ["joints2d", "joints3d"],
    "pairs": ["joints2d:joints3d"],
    "network": "lifter",
    "joint_loss": "distance",
    "width": 304,
    "depth": 4,
    "latent_dim": 30,
    "batch_size": 128,
    "lr": 2e-3,
    "schedule": "cosine",
    "warmup": 0.1,
    "ema": 0.998,
    "clip_norm": 1.0,
    "epochs": 1,
    "validations": 12,
    "augmentation": {"rotation_deg": 180.0, "shift": 0.02, "scale": 0.05, "noise_px": 3.0},
    "device": "cpu",
}
HELD_OUT = 2000


def write_poses(path: Path, count: int, seed: int, root: str) -> None:
    """A joints file of ``count`` synthetic hands, the last ones for validation."""
    drawn = poses(count, seed, root=root)  # type: ignore[arg-type]
    split = np.where(np.arange(count) < count - HELD_OUT, "train", "val")
    arrays = {name: drawn[name] for name in ("joints3d_mm", "joints2d_px", "K", "is_left")}
    np.savez(path, layout="hand21", root=root, split=split, **arrays)


def main(
    work: Annotated[Path, typer.Option(help="Folder for the poses and the run.")] = Path("runs/default"),
    out: Annotated[Path, typer.Option(help="The model file to write.")] = Path("cvhpe/models/default.safetensors"),
    count: Annotated[int, typer.Option(help="How many poses.")] = 240_000,
    steps: Annotated[int, typer.Option(help="Steps of 128 hands.")] = 5_000,
    seed: int = 0,
    threads: int = 2,
    score: Annotated[list[str] | None, typer.Option(help="NAME[:PATH] of real data: score and end.")] = None,
) -> None:
    """Draw the poses, train, and put the model where the package finds it; or score the one that is there."""
    if score:
        run = load_run(out)
        for source in score:
            typer.echo(source)
            for table in score_run(run, open_held_out(run.config, [source], "")):
                show(table)
        return
    out = out.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)  # the configuration travels with the model, and names its data as they lie here
    data = {"wrist": 2 * count // 3, "palm": count // 3}
    for number, (root, many) in enumerate(data.items()):
        write_poses(Path(f"{root}.npz"), many, 1000 * seed + number, root)
    names = [f"joints:{root}.npz" for root in data]
    config = checked({**SETTINGS, "data": names, "least_steps": steps, "seed": seed, "threads": threads})
    shutil.rmtree("run", ignore_errors=True)

    def told(record: dict[str, Any]) -> None:
        typer.echo(f"step {record['step']}: held-out median EPE {record['score']:.2f} mm")

    train(config, open_data(config), Path("run"), report=Reporter(validation=told))
    card = checkpoint.read_card(Path("run/model.safetensors"))
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(out, checkpoint.load(Path("run/model.safetensors")), card)
    typer.echo(f"{out}: {out.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    typer.run(main)
