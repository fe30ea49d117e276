"""Hands in COCO-style JSON, as mmpose writes them; also the format for your own images.

``images``: file_name, id, width, height, and if known ``cam_param`` {focal, princpt}.
``annotations``: image_id, keypoints (21 x (x, y, v), flat or nested; v = 0: not labelled), and if known ``joint_cam``
(21 x (x, y, z) mm, camera frame), ``hand_type`` (left, right), ``bbox``. One annotation is one sample. InterHand2.6M's
three files (``*_data.json``, ``*_camera.json``, ``*_joint_3d.json``) are read too, one sample a hand.

PATH is the JSON file or its folder (there, or in ``annotations/``); the split is the word train, val or test in the
file's name, and val serves as the test split if there is no test file. Annotations without a test file, or without a
split in their names, are divided by image: a tenth is the test split, always the same one. ``?layout=NAME`` gives the
joint order if it is not the usual one (wrist, then thumb to little finger, base to tip); ``?side=left`` or ``right``
gives the side of hands without ``hand_type``, which are right hands otherwise.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cvhpe.data.datasets.coco_annotations import HandAnnotation, find_image, image_size, image_table, parse_array
from cvhpe.data.datasets.interhand import interhand_files, read_interhand
from cvhpe.data.files import Array, decode_image, read_json, refuse_archive, reject
from cvhpe.data.reader import Reader, SplitAbsent, check_split
from cvhpe.data.source import parse_options
from cvhpe.errors import DataError
from cvhpe.geometry.camera import intrinsics, project
from cvhpe.geometry.skeleton import LEFT, RIGHT, Layout, layout
from cvhpe.plugin.sample import Sample

SPLITS = ("train", "test")
SIDES = {"left": LEFT, "right": RIGHT}
_TEST_MODULUS = 10
_SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test"}


class Coco(Reader):
    """The hands of one split; see the module's description."""

    def __init__(self, path: Path | None, split: str) -> None:
        root, options = parse_options(path, "coco", {"layout": "", "side": ""})
        check_split("coco", split, SPLITS)
        if options["side"] not in ("", *SIDES):
            raise DataError(f"coco?side={options['side']}: left or right")
        file, has_test_file = _annotation_file(root, split)
        content = read_json(file)
        lists = ("images", "annotations")
        if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
            reject(file, "is not COCO-style: it needs the lists 'images' and 'annotations'")
        companions = interhand_files(file)
        num_unsided = 0
        if companions:
            joint_layout, hands = layout("interhand"), read_interhand(content, file, companions)
        else:
            joint_layout = layout(options["layout"] or _usual_layout(content))
            hands, num_unsided = _read_hands(content, file, joint_layout, SIDES.get(options["side"], RIGHT))
        notes = []
        if num_unsided:
            assumed = options["side"] or "right"
            notes.append(f"{num_unsided} of {len(hands)} hands have no side and are taken for {assumed} hands (?side=)")
        if not has_test_file:
            hands = [h for h in hands if (zlib.crc32(h.image.encode()) % _TEST_MODULUS == 0) == (split == "test")]
            notes.append(f"{file.name} has no test file: a tenth of its images, chosen by name, is the test split")
        if not hands:
            reject(file, f"has no annotated hand in split {split!r}")
        folder = file.parent
        self.hands, self.split, self.note = hands, split, "; ".join(notes)
        self.folders = [folder, folder / "images", folder.parent, folder.parent / "images"]
        self.layout, self.root = joint_layout.name, joint_layout.root_kind

    def __len__(self) -> int:
        return len(self.hands)

    def labels(self, index: int) -> Sample:
        hand = self.hands[index]
        return Sample(
            id=f"{self.split}/{hand.id}",
            side=hand.side,
            joints3d_mm=hand.xyz,
            joints2d_px=hand.uv,
            visible=hand.visible,
            K=hand.K,
            box=hand.box,
            group=hand.group,
        )

    def files(self, index: int) -> dict[str, Path]:
        name = self.hands[index].image
        return {"rgb": next((f / name for f in self.folders if (f / name).exists()), self.folders[0] / name)}

    def _decode(self, index: int, name: str, path: Path) -> Array:
        return decode_image(path, "RGB", self.hands[index].size)


def _annotation_file(root: Path, split: str) -> tuple[Path, bool]:
    """The JSON of a split, and whether the test split has a file of its own."""
    if root.is_file():
        if root.suffix != ".json":
            refuse_archive(root, "coco")
            reject(root, "is no .json file; coco needs the annotation file or its folder")
        # The other splits of a file differ from it in the word of the split alone.
        files = [f for f in sorted(root.parent.glob("*.json")) if _other_words(f) == _other_words(root)]
    elif root.is_dir():
        files = sorted([*root.glob("*.json"), *root.glob("annotations/*.json")])
        files = [f for f in files if not f.name.endswith(("_camera.json", "_joint_3d.json", "_NeuralAnnot.json"))]
    else:
        reject(root, "no such file or folder")
    by_word: dict[str | None, list[Path]] = {}
    for file in files:
        by_word.setdefault(_split_word(file), []).append(file)
    test = by_word.get("test") or by_word.get("val") or []
    train = by_word.get("train") or by_word.get(None) or []
    candidates = test if split == "test" and test else train
    if not candidates:
        names = ", ".join(f.name for f in files[:6]) or "no .json at all"
        raise SplitAbsent(f"{root}: no annotation file for split {split!r}; it has {names}")
    if len(candidates) != 1:
        names = ", ".join(f.name for f in candidates[:6])
        reject(root, f"several annotation files for split {split!r}: {names}; give the file itself, --data coco:FILE")
    return candidates[0], bool(test)


def _split_word(file: Path) -> str | None:
    words = [_SPLIT_WORDS.get(w) for w in re.split(r"[^a-z]+", file.stem.lower())]
    return next((w for w in words if w), None)


def _other_words(file: Path) -> tuple[str, ...]:
    return tuple(w for w in re.split(r"[^a-z0-9]+", file.stem.lower()) if w not in _SPLIT_WORDS)


def _usual_layout(content: Mapping[str, Any]) -> str:
    # mmpose's RHD file keeps RHD's own order, tip to base, although its joint names say the opposite.
    info = content.get("info")
    return "rhd" if isinstance(info, Mapping) and info.get("description") == "RHD" else "coco21"


def _read_hands(
    content: Mapping[str, Any], file: Path, joint_layout: Layout, default_side: int
) -> tuple[list[HandAnnotation], int]:
    """The hands of a file, and how many of them have no side."""
    images = image_table(content, file)
    shape = (len(joint_layout), 3)
    hands, num_unsided = [], 0
    for at, annotation in enumerate(content["annotations"]):
        label = f"annotation {at}"
        image, number = find_image(annotation, label, images, file)
        xyz = None
        if "joint_cam" in annotation:
            xyz = parse_array(file, label, "joint_cam", annotation["joint_cam"], shape)
        K = _camera(file, label, annotation.get("cam_param") or image.get("cam_param"))
        if "keypoints" in annotation:
            keypoints = parse_array(file, label, "keypoints", annotation["keypoints"], shape)
            visible = np.asarray(keypoints[:, 2] > 0)
            uv = np.where(visible[:, None], keypoints[:, :2], np.nan)
        elif xyz is not None and K is not None:
            uv = project(xyz, K)
            visible = np.asarray(np.isfinite(uv).all(-1))
        else:
            reject(file, f"{label} has neither keypoints nor joint_cam with a camera")
        hand_type = str(annotation.get("hand_type"))
        num_unsided += hand_type not in SIDES
        hands.append(
            HandAnnotation(
                image=image["file_name"],
                size=image_size(image),
                id=f"{PurePosixPath(image['file_name']).stem}:{annotation.get('id', at)}",
                side=SIDES.get(hand_type, default_side),
                uv=uv.astype(np.float32),
                xyz=None if xyz is None else xyz.astype(np.float32),
                visible=visible,
                K=K,
                box=_box(file, label, annotation.get("bbox")),
                group=number,
            )
        )
    return hands, num_unsided


def _camera(file: Path, label: str, param: Any) -> Array | None:
    if param is None:
        return None
    if not isinstance(param, Mapping) or not {"focal", "princpt"} <= set(param):
        reject(file, f"{label}: 'cam_param' needs focal and princpt")
    focal = parse_array(file, label, "focal", param["focal"], (2,))
    centre = parse_array(file, label, "princpt", param["princpt"], (2,))
    return intrinsics(*focal, *centre).astype(np.float32)


def _box(file: Path, label: str, value: Any) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    x, y, w, h = (float(v) for v in parse_array(file, label, "bbox", value, (4,)))
    return x, y, w, h
