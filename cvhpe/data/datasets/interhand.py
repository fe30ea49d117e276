"""InterHand2.6M's annotation: pictures, cameras and world-frame joints in three JSON files.

42 joints, the right hand first, each finger tip to base and the wrist last; a hand without a valid joint
gives no sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cvhpe.data.datasets.coco_annotations import Hand, numbers, picture_of, picture_size, picture_table
from cvhpe.data.files import fail, read_json
from cvhpe.geometry.camera import intrinsics, project
from cvhpe.geometry.skeleton import LEFT, RIGHT

_ROWS = {RIGHT: slice(0, 21), LEFT: slice(21, 42)}


def interhand_files(file: Path) -> tuple[Path, Path] | None:
    """The camera and 3D files that belong to an InterHand2.6M ``*_data.json``; None where it is not one."""
    if not file.name.endswith("_data.json"):
        return None
    stem = file.name.removesuffix("_data.json")
    others = (file.with_name(f"{stem}_camera.json"), file.with_name(f"{stem}_joint_3d.json"))
    return others if all(o.exists() for o in others) else None


def read_hands(content: Mapping[str, Any], file: Path, companions: tuple[Path, Path]) -> list[Hand]:
    """Every hand with a valid joint, in its camera's frame: ``R (x - position)``, mm."""
    camera_file, joint_file = companions
    cameras, joints = read_json(camera_file), read_json(joint_file)
    pictures = picture_table(content, file)
    sequences: dict[tuple[str, str], int] = {}
    hands = []
    for at, a in enumerate(content["annotations"]):
        what = f"annotation {at}"
        picture, _ = picture_of(a, what, pictures, file)
        capture, camera, frame = (str(picture.get(k)) for k in ("capture", "camera", "frame_idx"))
        rig = _inside(camera_file, cameras, capture)
        sizes: dict[str, tuple[int, ...]] = {"campos": (3,), "camrot": (3, 3), "focal": (2,), "princpt": (2,)}
        one = {
            key: numbers(camera_file, f"camera {camera}", key, _inside(camera_file, rig, key, camera), size)
            for key, size in sizes.items()
        }
        K = intrinsics(*one["focal"], *one["princpt"])
        coordinates = _inside(joint_file, joints, capture, frame, "world_coord")
        world = numbers(joint_file, f"frame {frame}", "world_coord", coordinates, (42, 3))
        valid = numbers(file, what, "joint_valid", a.get("joint_valid"), (42, 1))[:, 0] > 0
        xyz = (world - one["campos"]) @ one["camrot"].T
        uv = project(xyz, K)
        group = sequences.setdefault((capture, str(picture.get("seq_name"))), len(sequences))
        for side, rows in _ROWS.items():
            seen = valid[rows] & np.isfinite(uv[rows]).all(-1)
            if not seen.any():
                continue
            hands.append(
                Hand(
                    picture=picture["file_name"],
                    size=picture_size(picture),
                    id=f"{PurePosixPath(picture['file_name']).stem}:{'left' if side == LEFT else 'right'}",
                    side=side,
                    uv=np.where(seen[:, None], uv[rows], np.nan).astype(np.float32),
                    xyz=np.where(valid[rows, None], xyz[rows], np.nan).astype(np.float32),
                    visible=seen,
                    K=K.astype(np.float32),
                    box=None,
                    group=group,
                )
            )
    return hands


def _inside(file: Path, table: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(table, Mapping) or key not in table:
            fail(file, f"has no entry {' / '.join(keys)}")
        table = table[key]
    return table
