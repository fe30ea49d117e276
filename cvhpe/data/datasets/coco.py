"""Hands in COCO-style JSON, as mmpose writes them, and the answer for people's own pictures.

``images``: file_name, id, width, height, and where known ``cam_param`` {focal, princpt}.
``annotations``: image_id, keypoints (21 x (x, y, v), flat or nested; v = 0: not labelled), and where
known ``joint_cam`` (21 x (x, y, z) mm, camera frame), ``hand_type`` (left, right), ``bbox``. One
annotation is one sample. InterHand2.6M's three files (``*_data.json``, ``*_camera.json``,
``*_joint_3d.json``) are read too, one sample a hand.

PATH is the JSON file or its folder (there, or in ``annotations/``); the split is the word train, val or
test in the file's name, and val serves as the test split where there is no test file. Annotations that
have no test file, or say no split at all, are cut by their pictures: a tenth is the test split, always
the same one. ``?layout=NAME`` says the joint order where it is not the usual one (wrist, then thumb to
little finger, base to tip); ``?side=left`` or ``right`` says the hand where ``hand_type`` does not: right
otherwise.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cvhpe.data.datasets.coco_annotations import Hand, numbers, picture_of, picture_size, picture_table
from cvhpe.data.datasets.interhand import interhand_files, read_hands
from cvhpe.data.files import Array, fail, read_json, read_rgb, refuse_archive, with_options
from cvhpe.data.reader import Reader, SplitAbsent, check_split
from cvhpe.errors import DataError
from cvhpe.geometry.camera import intrinsics, project
from cvhpe.geometry.skeleton import LEFT, RIGHT, Layout, layout
from cvhpe.plugin.sample import Sample

SPLITS = ("train", "test")
SIDES = {"left": LEFT, "right": RIGHT}
_TEST_SHARE = 10
_WORDS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test"}


class Coco(Reader):
    """The hands of one split, all in one layout."""

    def __init__(self, hands: Sequence[Hand], split: str, of: Layout, folders: Sequence[Path], note: str):
        self.hands, self.split, self.folders, self.note = list(hands), split, list(folders), note
        self.layout, self.root = of.name, of.root_kind

    def __len__(self) -> int:
        return len(self.hands)

    def labels(self, index: int) -> Sample:
        hand = self.hands[self._at(index)]
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
        name = self.hands[self._at(index)].picture
        return {"rgb": next((f / name for f in self.folders if (f / name).exists()), self.folders[0] / name)}

    def images(self, index: int) -> dict[str, Array]:
        return {"rgb": read_rgb(self.files(index)["rgb"], self.hands[self._at(index)].size)}


def open_coco(path: Path | None, split: str) -> Coco:
    """``coco``: see the module; ``coco:PATH?layout=NAME&side=left``."""
    where, options = with_options(path, "coco", {"layout": "", "side": ""})
    check_split("coco", split, SPLITS)
    if options["side"] not in ("", *SIDES):
        raise DataError(f"coco?side={options['side']}: left or right")
    file, whole = _annotation_file(where, split)
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        fail(file, "is not COCO-style: it needs the lists 'images' and 'annotations'")
    side = SIDES.get(options["side"])
    companions = interhand_files(file)
    if companions:
        of, hands = layout("interhand"), read_hands(content, file, companions)
        unsaid = 0
    else:
        of = layout(options["layout"] or _usual_layout(content))
        hands, unsaid = _read_hands(content, file, of, RIGHT if side is None else side)
    notes = []
    if unsaid:
        assumed = options["side"] or "right"
        notes.append(f"{unsaid} of {len(hands)} hands say no side and are taken for {assumed} hands (?side=)")
    if not whole:
        hands = [h for h in hands if (zlib.crc32(h.picture.encode()) % _TEST_SHARE == 0) == (split == "test")]
        notes.append(f"{file.name} has no test file: a tenth of its pictures, chosen by name, is the test split")
    if not hands:
        fail(file, f"has no annotated hand in split {split!r}")
    base = file.parent
    return Coco(hands, split, of, [base, base / "images", base.parent, base.parent / "images"], "; ".join(notes))


def _annotation_file(where: Path, split: str) -> tuple[Path, bool]:
    """The JSON of a split, and whether it is that split as a whole."""
    if where.is_file():
        if where.suffix != ".json":
            refuse_archive(where, "coco")
            fail(where, "is no .json file; coco needs the annotation file or its folder")
        # A file brings those that differ from it in the word of the split alone.
        found = [f for f in sorted(where.parent.glob("*.json")) if _rest_of_name(f) == _rest_of_name(where)]
    elif where.is_dir():
        found = sorted([*where.glob("*.json"), *where.glob("annotations/*.json")])
        found = [f for f in found if not f.name.endswith(("_camera.json", "_joint_3d.json", "_NeuralAnnot.json"))]
    else:
        fail(where, "no such file or folder")
    by_word: dict[str | None, list[Path]] = {}
    for f in found:
        by_word.setdefault(_word_of(f), []).append(f)
    test = by_word.get("test") or by_word.get("val") or []
    train = by_word.get("train") or by_word.get(None) or []
    mine = test if split == "test" and test else train
    if not mine:
        have = ", ".join(f.name for f in found[:6]) or "no .json at all"
        raise SplitAbsent(f"{where}: no annotation file for split {split!r}; it has {have}")
    if len(mine) != 1:
        have = ", ".join(f.name for f in mine[:6])
        fail(where, f"several annotation files for split {split!r}: {have}; give the file itself, --data coco:FILE")
    return mine[0], bool(test)


def _word_of(file: Path) -> str | None:
    said = [_WORDS.get(w) for w in re.split(r"[^a-z]+", file.stem.lower())]
    return next((w for w in said if w), None)


def _rest_of_name(file: Path) -> tuple[str, ...]:
    return tuple(w for w in re.split(r"[^a-z0-9]+", file.stem.lower()) if w not in _WORDS)


def _usual_layout(content: Mapping[str, Any]) -> str:
    # mmpose's RHD file keeps RHD's own order, tip to base, under names that say the opposite.
    info = content.get("info")
    return "rhd" if isinstance(info, Mapping) and info.get("description") == "RHD" else "coco21"


def _read_hands(content: Mapping[str, Any], file: Path, of: Layout, unsaid_side: int) -> tuple[list[Hand], int]:
    """The hands of a file, and how many of them do not say their side."""
    pictures = picture_table(content, file)
    hands, unsaid = [], 0
    for at, a in enumerate(content["annotations"]):
        what = f"annotation {at}"
        picture, number = picture_of(a, what, pictures, file)
        xyz = numbers(file, what, "joint_cam", a["joint_cam"], (len(of), 3)) if "joint_cam" in a else None
        K = _camera(file, what, a.get("cam_param") or picture.get("cam_param"))
        if "keypoints" in a:
            uvv = numbers(file, what, "keypoints", a["keypoints"], (len(of), 3))
            visible = np.asarray(uvv[:, 2] > 0)
            uv = np.where(visible[:, None], uvv[:, :2], np.nan)
        elif xyz is not None and K is not None:
            uv = project(xyz, K)
            visible = np.asarray(np.isfinite(uv).all(-1))
        else:
            fail(file, f"{what} has neither keypoints nor joint_cam with a camera")
        hand_type = str(a.get("hand_type"))
        unsaid += hand_type not in SIDES
        hands.append(
            Hand(
                picture=picture["file_name"],
                size=picture_size(picture),
                id=f"{PurePosixPath(picture['file_name']).stem}:{a.get('id', at)}",
                side=SIDES.get(hand_type, unsaid_side),
                uv=uv.astype(np.float32),
                xyz=None if xyz is None else xyz.astype(np.float32),
                visible=visible,
                K=K,
                box=_box(file, what, a.get("bbox")),
                group=number,
            )
        )
    return hands, unsaid


def _camera(file: Path, what: str, param: Any) -> Array | None:
    if param is None:
        return None
    if not isinstance(param, Mapping) or not {"focal", "princpt"} <= set(param):
        fail(file, f"{what}: 'cam_param' needs focal and princpt")
    focal = numbers(file, what, "focal", param["focal"], (2,))
    centre = numbers(file, what, "princpt", param["princpt"], (2,))
    return intrinsics(*focal, *centre).astype(np.float32)


def _box(file: Path, what: str, value: Any) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    x, y, w, h = (float(v) for v in numbers(file, what, "bbox", value, (4,)))
    return x, y, w, h
