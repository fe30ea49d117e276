"""RHD in miniature, in its exact format, with images whose colours encode the position of every pixel."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 320
FOCAL = 280.0
LEFT_AT, RIGHT_AT = np.array([-0.07, 0.0, 0.55]), np.array([0.07, 0.02, 0.5])


def hand(rng: np.random.Generator) -> np.ndarray:
    """A flat hand of 21 joints in RHD's order (wrist, then every finger tip to base), metres, middle PIP-MCP 36 mm."""
    joints = np.zeros((21, 3))
    for finger in range(5):
        angle = np.deg2rad(-40 + 20 * finger) - np.pi / 2
        reach = np.array([0.16, 0.145, 0.116, 0.08]) * (1 - 0.05 * abs(finger - 2))
        joints[1 + 4 * finger : 5 + 4 * finger, 0] = reach * np.cos(angle)
        joints[1 + 4 * finger : 5 + 4 * finger, 1] = reach * np.sin(angle)
    joints[:, 2] += rng.normal(0, 0.005, 21)
    joints[11, :2], joints[11, 2] = joints[12, :2] + (0, -0.036), joints[12, 2]
    joints -= joints[12]
    angle = rng.uniform(-0.5, 0.5)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return joints @ rotation.T


def frame(rng: np.random.Generator, *, left: bool = True, right: bool = True) -> dict[str, np.ndarray]:
    """One annotation as RHD writes it; an absent hand stands behind the camera."""
    behind = np.array([0.5, 0.5, -0.3])
    xyz = np.concatenate([hand(rng) + (LEFT_AT if left else behind), hand(rng) + (RIGHT_AT if right else behind)])
    K = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1.0]])
    uv = (xyz @ K.T)[:, :2] / xyz[:, 2:]
    inside = ((uv >= 0) & (uv <= SIZE - 1)).all(1) & (xyz[:, 2] > 0)
    return {"xyz": xyz, "uv_vis": np.concatenate([uv, inside[:, None]], 1), "K": K}


def images(anno: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Colour that encodes x (red) and y (green) of every pixel; depth and parts as a square around every joint."""
    at = np.arange(SIZE) * 255 / (SIZE - 1)
    color = np.zeros((SIZE, SIZE, 3), np.uint8)
    color[..., 0], color[..., 1], color[..., 2] = np.rint(at)[None], np.rint(at)[:, None], 77
    metres = np.full((SIZE, SIZE), 4.0)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[-40:] = 1
    for joint, ((u, v, visible), z) in enumerate(zip(anno["uv_vis"], anno["xyz"][:, 2], strict=True)):
        if visible:
            box = slice(max(int(v) - 5, 0), int(v) + 6), slice(max(int(u) - 5, 0), int(u) + 6)
            metres[box] = z
            mask[box] = (2 if joint < 21 else 18) + joint % 21 % 16
    code = np.rint(metres / 5.0 * 65535).astype(np.int64)
    depth = np.zeros_like(color)
    depth[..., 0], depth[..., 1] = code // 256, code % 256
    return {"color": color, "depth": depth, "mask": mask}


def write_rhd(
    root: Path, training: int = 4, evaluation: int = 3, seed: int = 0, *, only: dict[int, str] | None = None
) -> dict[str, dict[int, dict[str, np.ndarray]]]:
    """Write ``RHD_published_v2`` into ``root``; ``only``: frame -> the one hand it shows. Returns the annotations."""
    rng = np.random.default_rng(seed)
    written: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for part, count in (("training", training), ("evaluation", evaluation)):
        folder = root / "RHD_published_v2" / part
        written[part] = {}
        for name in ("color", "depth", "mask"):
            (folder / name).mkdir(parents=True)
        for i in range(count):
            shown = (only or {}).get(i, "both")
            anno = frame(rng, left=shown != "right", right=shown != "left")
            written[part][i] = anno
            for name, image in images(anno).items():
                Image.fromarray(image).save(folder / name / f"{i:05d}.png", compress_level=1)
        (folder / f"anno_{part}.pickle").write_bytes(pickle.dumps(written[part], 2))
    return written
