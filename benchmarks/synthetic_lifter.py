"""FusionParams real are the synthetic hands? Train a 2D -> 3D lifter on them alone and score it on real labels.

    python benchmarks/synthetic_lifter.py --rhd ../shared/data/rhd/rhd_evaluation_a.npz \
        --stb ../shared/data/stb/labels/B1Counting_BB.mat

The network never sees a real pose nor takes a bone length from one, and the same weights are scored on both
data sets: median end-point error under protocol TSH (root-relative, divided by the middle finger's PIP-MCP
bone, hand side known). A wrist root becomes the palm. `--ablate` trains again with the proportion spread off.
A measuring instrument, not a tuning one: the generator's configuration does not follow from these scores.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy.io
import torch
import typer
from torch import Tensor, nn

from cvhpe.evaluation.metrics import summary
from cvhpe.geometry.camera import mirror_points, normalise
from cvhpe.geometry.skeleton import convert
from cvhpe.synthetic import poses

Array = np.ndarray
STB_CAMERA = np.array([822.79041, 318.47345, 250.31296])  # the left camera of the pair: f, cx, cy


class Lifter(nn.Module):
    """Residual multilayer perceptron: ``[B, 42]`` crop coordinates to ``[B, 63]`` joints in scale bones."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(42, width), nn.Linear(width, 63)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


def inputs(joints2d: Array, is_left: Array) -> Tensor:
    """``[N, 42]``: right-handed, about the middle of the joints' box, box edge 1."""
    low, high = joints2d.min(1, keepdims=True), joints2d.max(1, keepdims=True)
    x = (joints2d - (low + high) / 2) / (high - low).max(2, keepdims=True)
    x = np.where(is_left[:, None, None], x * np.array([-1, 1]), x)
    return torch.from_numpy(x.reshape(len(x), 42).astype(np.float32))


def targets(joints3d: Array, is_left: Array) -> tuple[Tensor, Array]:
    """``[N, 63]`` right-handed joints relative to the root, in scale bones, and that bone's mm ``[N]``."""
    unit = normalise(np.where(is_left[:, None, None], mirror_points(joints3d), joints3d), "hand21", "TS")
    return torch.from_numpy(unit.joints.reshape(len(joints3d), 63).astype(np.float32)), unit.scale


def read_rhd(path: Path) -> tuple[Array, Array, Array]:
    """joints2d, joints3d, is_left of a joints file, root moved to the palm."""
    with np.load(path, allow_pickle=False) as file:
        source = str(file["layout"])
        joints = [convert(file[k], source, "hand21", root="keep") for k in ("joints2d_px", "joints3d_mm")]
        left = file["is_left"]
    for x in joints:
        x[:, 0] = (x[:, 0] + x[:, 9]) / 2
    return joints[0], joints[1], left


def read_stb(path: Path) -> tuple[Array, Array, Array]:
    """The same of an STB label file (left hands, palm labelled, left camera)."""
    xyz = convert(scipy.io.loadmat(path)["handPara"].transpose(2, 1, 0), "stb", "hand21", root="keep")
    uv = xyz[..., :2] / xyz[..., 2:] * STB_CAMERA[0] + STB_CAMERA[1:]
    return uv, xyz, np.ones(len(xyz), bool)


def train(seed: int, steps: int, batch: int, width: int, blocks: int, proportions: bool, rate: float) -> Lifter:
    """A lifter trained on ``steps`` batches of fresh synthetic poses; returns averaged weights."""
    torch.manual_seed(seed)
    net = Lifter(width, blocks)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        drawn = poses(batch, seed, root="palm", proportions=proportions, start=step * batch)
        x = inputs(drawn["joints2d_px"], drawn["is_left"])
        y, _ = targets(drawn["joints3d_mm"], drawn["is_left"])
        loss = nn.functional.smooth_l1_loss(net(x), y, beta=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        mean.update_parameters(net)
    net.load_state_dict(mean.module.state_dict())
    return net


def score(net: Lifter, joints2d: Array, joints3d: Array, is_left: Array) -> float:
    """Median EPE, mm, root-relative, each frame's own bone multiplied back in."""
    y, scale = targets(joints3d, is_left)
    with torch.no_grad():
        found = net(inputs(joints2d, is_left))
    mm = scale[:, None, None]
    return summary(found.numpy().reshape(-1, 21, 3) * mm, y.numpy().reshape(-1, 21, 3) * mm).epe_median


def main(
    rhd: Annotated[Path, typer.Option(help="joints file of RHD frames")],
    stb: Annotated[Path, typer.Option(help="STB label file of the left camera (*_BB.mat)")],
    steps: Annotated[int, typer.Option(help="training batches")] = 4000,
    batch: int = 256,
    width: int = 384,
    blocks: int = 3,
    rate: float = 1e-3,
    seeds: Annotated[int, typer.Option(help="how many seeds to train, from 0")] = 1,
    ablate: Annotated[bool, typer.Option(help="also without the proportion spread")] = False,
) -> None:
    """Train on synthetic poses alone, print a table of median EPE in mm on real labels."""
    real = {"RHD": read_rhd(rhd), "STB": read_stb(stb)}
    typer.echo(f"{'training poses':<24}{'seed':>5}{'synthetic':>11}{'RHD':>8}{'STB':>8}{'seconds':>9}")
    for proportions in (True, False) if ablate else (True,):
        held = poses(2000, 10**6, root="palm", proportions=proportions)
        synthetic = (held["joints2d_px"], held["joints3d_mm"], held["is_left"])
        for seed in range(seeds):
            begin = time.perf_counter()
            net = train(seed, steps, batch, width, blocks, proportions, rate)
            took = time.perf_counter() - begin
            cells = "".join(f"{score(net, *data):>8.2f}" for data in real.values())
            name = "synthetic" if proportions else "synthetic, mean hand"
            typer.echo(f"{name:<24}{seed:>5}{score(net, *synthetic):>11.2f}{cells}{took:>9.0f}")


if __name__ == "__main__":
    typer.run(main)
