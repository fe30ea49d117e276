"""Score a predictions file: text with u, v, depth of every joint, one line a frame.

Depth benchmarks publish results in this form. As there, errors are in the camera frame, not root-relative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.files import Array, read_table, read_text, refuse_archive, reject
from cvhpe.data.reader import Reader, split_note
from cvhpe.errors import DataError
from cvhpe.evaluation.metrics import Summary, summary
from cvhpe.geometry.camera import unproject
from cvhpe.geometry.skeleton import layout
from cvhpe.plugin.sample import DatasetSpec


@dataclass(frozen=True)
class PredictionScore:
    """The score of a predictions file.

    Attributes:
        metrics: The metrics.
        joints: Joint names.
        notes: Remarks on the truth, such as that the local copy is incomplete.
    """

    metrics: Summary
    joints: Sequence[str]
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The record that ``evaluate --json`` prints."""
        return self.metrics.as_dict(self.joints) | {"notes": list(self.notes)}


def score_predictions(file: Path, spec: DatasetSpec, path: Path | None, split: str = "test") -> PredictionScore:
    """Score a predictions file against a split of a data set.

    Args:
        file: One line a sample of the split, in its order, of ``J`` x (u px, v px, depth mm).
        spec: The data set.
        path: Its folder. For ICVL also a text file of true labels in the same form, or a folder with one such file
            named ``*groundtruth*``.
        split: The split.

    Returns:
        The score.

    Raises:
        DataError: The file does not fit the split, or the split has no 3D labels or cameras.
    """
    truth, K, names, note = _truth(spec, path, split)
    predicted = read_uvd(file, len(names))
    if len(predicted) != len(truth):
        reject(file, f"has {len(predicted)} lines, the {split} split of {spec.name} has {len(truth)} samples")
    depth = predicted[..., 2]
    if (depth <= 0).any():
        line = int(np.argwhere(depth <= 0)[0, 0]) + 1
        reject(file, f"line {line} has a joint at depth 0 or behind the camera")
    xyz = unproject(predicted[..., :2], depth, K)
    visible = np.isfinite(truth).all(-1)
    return PredictionScore(summary(xyz, truth, visible), names, (note,) if note else ())


def read_uvd(file: Path, joints: int) -> Array:
    """Read a predictions file.

    Args:
        file: The file.
        joints: Number ``J`` of joints a line.

    Returns:
        ``(N, J, 3)`` float64: u px, v px, depth mm.

    Raises:
        DataError: The file is empty or not such a table.
    """
    lines = [(n, line) for n, line in enumerate(read_text(file).splitlines(), 1) if line.strip()]
    if not lines:
        reject(file, "holds no line")
    return read_table(file, lines, 3 * joints).reshape(-1, joints, 3)


def _truth(spec: DatasetSpec, path: Path | None, split: str) -> tuple[Array, Array, Sequence[str], str]:
    """True joints ``(N, J, 3)`` mm, cameras ``(3, 3)`` or ``(N, 3, 3)``, joint names, a note."""
    labels = _icvl_labels(path) if spec.name == "icvl" and path is not None else None
    if labels is not None:
        from cvhpe.data.datasets.icvl import K as icvl_camera

        names = layout("icvl16").joints
        uvd = read_uvd(labels, len(names))
        return unproject(uvd[..., :2], uvd[..., 2], icvl_camera), icvl_camera, names, ""
    dataset = spec.open(path, split)
    read = dataset.labels if isinstance(dataset, Reader) else dataset.__getitem__
    samples = [read(i) for i in range(len(dataset))]
    for s in samples:
        if s.joints3d_mm is None or s.K is None:
            raise DataError(f"{spec.name}:{path}: sample {s.id} has no 3D label or no camera to score against")
    xyz = np.stack([np.asarray(s.joints3d_mm, np.float64) for s in samples])
    cameras = np.stack([np.asarray(s.K, np.float64) for s in samples])
    return xyz, cameras, layout(dataset.layout).joints, split_note(dataset, spec, split, path)


def _icvl_labels(path: Path) -> Path | None:
    if path.is_file():
        refuse_archive(path, "icvl")
        return path
    files = sorted(path.glob("*groundtruth*.txt")) if path.is_dir() and not (path / "Testing").exists() else []
    return files[0] if len(files) == 1 else None
