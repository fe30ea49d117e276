"""Small packs, written array by array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.data.packing.pack import Meta, Pack, write_meta


def write_pack(folder: Path, count: int = 10, *, size: int = 6, **more: object) -> Pack:
    """A pack whose image of sample i is filled with i; for tests of packs and of the loader."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    joints = int(more.pop("joints", 21))  # type: ignore[call-overload]
    xyz = rng.normal(0, 40, (count, joints, 3)).astype(np.float32) + np.float32(400)
    arrays = {
        "rgb": np.broadcast_to((np.arange(count) % 256).astype(np.uint8)[:, None, None, None], (count, size, size, 3)),
        "joints3d_mm": xyz,
        "joints2d": rng.uniform(-0.4, 0.4, (count, joints, 2)).astype(np.float32),
        "visible": rng.random((count, joints)) > 0.2,
        "side": np.arange(count) % 2,
        "root_shift_weight": np.full(count, 0.5, np.float32),
        "scale_mm": rng.uniform(30, 40, count).astype(np.float32),
        "K": np.tile(np.eye(3), (count, 1, 1)),
        "crop": rng.uniform(10, 90, (count, 3)),
        "depth_z": np.full(count, 400, np.float32),
        "group": np.arange(count) // 2,
        "id": np.array([f"s{i}" for i in range(count)]),
        "has_rgb": np.ones(count, bool),
        "has_joints2d": np.ones(count, bool),
        "has_joints3d": np.ones(count, bool),
    }
    arrays |= more.pop("arrays", {})  # type: ignore[arg-type]
    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items() if name not in more.get("without", ())}  # type: ignore[operator]
    more.pop("without", None)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    meta = {
        "count": count, "layout": "hand21", "native": "rhd", "root": "wrist", "image_size": 4, "stored": size,
        "margin": 1.5, "crop_factor": 1.25, "crop_kind": "joints", "cube_mm": 150.0, "name": "made",
        "source": "", "split": "train",
        "fields": {name: (a.dtype.str, a.shape) for name, a in arrays.items()},
    }  # fmt: skip
    write_meta(folder, Meta(**(meta | more)))  # type: ignore[arg-type]
    return Pack.open(folder)


def depth_mm(codes, z, cube):
    """Stored depth codes in mm: 1 to 65535 run linearly from ``z - cube`` to ``z + cube``; 0 where the code is 0."""
    return np.where(codes > 0, z + ((codes.astype(float) - 1) / 65534 * 2 - 1) * cube, 0)
