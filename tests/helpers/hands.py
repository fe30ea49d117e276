"""Small data sets of synthetic hands, for tests that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvhpe.synthetic import poses


def joints_file(path: Path, n: int = 320, held_out: int = 64, seed: int = 0, **changes: np.ndarray | None) -> Path:
    """A ``joints`` file of ``n`` hands, the last ``held_out`` of them for validation; a change of None leaves out."""
    hands = poses(n, seed)
    split = np.where(np.arange(n) < n - held_out, "train", "val")
    arrays = {
        "joints3d_mm": hands["joints3d_mm"],
        "joints2d_px": hands["joints2d_px"],
        "K": hands["K"],
        "is_left": hands["is_left"],
        "layout": np.array("freihand"),
        "split": split,
    }
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path
