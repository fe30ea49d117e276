"""InterHand2.6M's annotations: images, cameras and world-frame joints in three JSON files.

42 joints, the right hand first, each finger from tip to base and the wrist last. A hand without a valid joint gives no
sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cvhpe.data.datasets.coco_annotations import HandAnnotation, find_image, image_size, image_table, parse_array
from cvhpe.data.files import read_json, reject
from cvhpe.geometry.camera import intrinsics, project
from cvhpe.geometry.skeleton import LEFT, RIGHT

_ROWS = {RIGHT: slice(0, 21), LEFT: slice(21, 42)}


def interhand_files(file: Path) -> tuple[Path, Path] | None:
    """The camera and 3D files that belong to an InterHand2.6M ``*_data.json``; None where it is not params."""
    if not file.name.endswith("_data.json"):
        return None
    stem = file.name.removesuffix("_data.json")
    companions = (file.with_name(f"{stem}_camera.json"), file.with_name(f"{stem}_joint_3d.json"))
    return companions if all(c.exists() for c in companions) else None


def read_interhand(content: Mapping[str, Any], file: Path, companions: tuple[Path, Path]) -> list[HandAnnotation]:
    """Read every hand with a valid joint, in its camera's frame: ``R (x - position)``, mm.

    Args:
        content: of the ``*_data.json``.
        file: its path, for messages.
        companions: the camera and 3D files.

    Returns:
        The hands.
    """
    camera_file, joint_file = companions
    cameras, joints = read_json(camera_file), read_json(joint_file)
    images = image_table(content, file)
    sequences: dict[tuple[str, str], int] = {}
    hands = []
    for at, annotation in enumerate(content["annotations"]):
        label = f"annotation {at}"
        image, _ = find_image(annotation, label, images, file)
        capture, camera, frame = (str(image.get(k)) for k in ("capture", "camera", "frame_idx"))
        rig = _lookup(camera_file, cameras, capture)
        sizes: dict[str, tuple[int, ...]] = {"campos": (3,), "camrot": (3, 3), "focal": (2,), "princpt": (2,)}
        params = {
            key: parse_array(camera_file, f"camera {camera}", key, _lookup(camera_file, rig, key, camera), size)
            for key, size in sizes.items()
        }
        K = intrinsics(*params["focal"], *params["princpt"])
        coordinates = _lookup(joint_file, joints, capture, frame, "world_coord")
        world = parse_array(joint_file, f"frame {frame}", "world_coord", coordinates, (42, 3))
        valid = parse_array(file, label, "joint_valid", annotation.get("joint_valid"), (42, 1))[:, 0] > 0
        xyz = (world - params["campos"]) @ params["camrot"].T
        uv = project(xyz, K)
        group = sequences.setdefault((capture, str(image.get("seq_name"))), len(sequences))
        for side, rows in _ROWS.items():
            visible = valid[rows] & np.isfinite(uv[rows]).all(-1)
            if not visible.any():
                continue
            hands.append(
                HandAnnotation(
                    image=image["file_name"],
                    size=image_size(image),
                    id=f"{PurePosixPath(image['file_name']).stem}:{'left' if side == LEFT else 'right'}",
                    side=side,
                    uv=np.where(visible[:, None], uv[rows], np.nan).astype(np.float32),
                    xyz=np.where(valid[rows, None], xyz[rows], np.nan).astype(np.float32),
                    visible=visible,
                    K=K.astype(np.float32),
                    box=None,
                    group=group,
                )
            )
    return hands


def _lookup(file: Path, table: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(table, Mapping) or key not in table:
            reject(file, f"has no entry {' / '.join(keys)}")
        table = table[key]
    return table
