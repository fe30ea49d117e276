"""Joints without images: one ``.npz`` with ``joints3d_mm``, ``joints2d_px``, ``K``, ``is_left``, ``layout``.

Optional: ``visible`` (N, J), ``split`` (N,) of train / val / test, ``group`` (N,) of samples that a split must not
separate, ``root`` (``wrist`` or ``palm``) for the layout ``hand21``, which does not define its root. If the file has no
``split``, a fixed tenth of the groups (of the frames, if it has no groups) is held out, and the reader's ``note`` says
so.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.files import is_plausible
from cvhpe.data.holdout import holdout_mask, split_units
from cvhpe.data.reader import Reader, check_split
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.skeleton import layout as find_layout
from cvhpe.plugin.sample import Array, Sample

SPLITS = ("train", "val", "test", "all")
_REQUIRED = ("joints3d_mm", "joints2d_px", "K", "is_left", "layout")
_OPTIONAL = ("visible", "split", "group", "root")


class JointsFile(Reader):
    """One split of a joints file. ``note`` says how the split was made.

    ``test`` gives the frames marked test; if none is marked the validation frames; and every frame of a file without
    ``split``. ``all`` gives every frame.
    """

    def __init__(self, path: Path | None, split: str) -> None:
        if path is None:
            raise DataError("the joints data set is a file of yours: name it, as in --data joints:hands.npz")
        check_split("joints", split, SPLITS)
        arrays = _read(Path(path))
        self.layout = find_layout(str(arrays["layout"])).name
        self.root = _root(path, find_layout(self.layout).root_kind, arrays)
        self._arrays = arrays
        self._rows, self.note = _select(Path(path), arrays, split)
        behind = int((arrays["joints3d_mm"][self._rows, :, 2] <= 0).any(1).sum())
        if behind:
            self.note += f"; {behind} of them with a joint behind the camera (z <= 0), where it has no image"

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self, index: int) -> Sample:
        row, a = int(self._rows[index]), self._arrays
        return Sample(
            id=str(row),
            side=0 if a["is_left"][row] else 1,
            joints3d_mm=a["joints3d_mm"][row],
            joints2d_px=a["joints2d_px"][row],
            visible=a["visible"][row],
            K=a["K"][row],
            group=int(a["group"][row]),
        )


def _read(path: Path) -> dict[str, Array]:
    """The arrays of a file, checked."""
    if path.is_dir():
        raise DataError(f"{path}: a folder; the joints data set is one .npz file")
    try:
        file = np.load(path, mmap_mode="r", allow_pickle=False)  # mmap_mode: a single .npy is not read
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: not an .npz file; write it with numpy.savez({', '.join(_REQUIRED)})")
        with file:
            arrays: dict[str, Array] = {name: file[name] for name in file.files if name in (*_REQUIRED, *_OPTIONAL)}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path after 'joints:'") from None
    # a zip or .npy that is no array file, truncated, of objects, or (RuntimeError) encrypted or of an unknown version
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:100]
        if "allow_pickle" in str(error) or "pickled" in str(error):  # numpy advises to load it unsafely
            reason = "it holds Python objects, or is no array file at all"
        raise DataError(f"{path}: not a complete .npz file of plain arrays ({reason})") from None
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; a joints file has {', '.join(_REQUIRED)}")
    return _checked(path, arrays)


def _root(path: Path, kind: str, arrays: dict[str, Array]) -> str:
    root = str(arrays["root"]) if "root" in arrays else kind
    if root == "any":
        raise DataError(f"{path}: layout hand21 does not say whether its root is a wrist or a palm; add root='wrist'")
    if root not in ("wrist", "palm") or kind not in ("any", root):
        raise DataError(f"{path}: root is {root!r}, with layout {arrays['layout']} it must be {kind!r}")
    return root


def _checked(path: Path, arrays: dict[str, Array]) -> dict[str, Array]:
    if arrays["layout"].shape != () or arrays["layout"].dtype.kind != "U":
        raise DataError(f"{path}: layout must be one string such as 'rhd', not shape {arrays['layout'].shape}")
    try:
        joints = len(find_layout(str(arrays["layout"])))
    except UserError as error:
        raise DataError(f"{path}: {error}") from None
    count = len(arrays["joints3d_mm"]) if arrays["joints3d_mm"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = {
        "joints3d_mm": (count, joints, 3), "joints2d_px": (count, joints, 2), "K": (count, 3, 3),
        "is_left": (count,), "visible": (count, joints), "split": (count,), "group": (count,),
    }  # fmt: skip
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise DataError(
                f"{path}: {name} has shape {arrays[name].shape}, with layout {arrays['layout']} it must be {shape}"
            )
    if not count:
        raise DataError(f"{path}: holds no frame")
    out: dict[str, Array] = {name: arrays[name] for name in ("layout", "root") if name in arrays}
    out["K"] = _number(path, "K", arrays["K"], np.float64)
    out["is_left"] = _flags(path, "is_left", arrays["is_left"])
    out["visible"] = _flags(path, "visible", arrays.get("visible", np.ones((count, joints), bool)))
    out["group"] = _number(path, "group", arrays.get("group", np.full(count, -1)), np.int64)
    for name in ("joints3d_mm", "joints2d_px"):
        values = _number(path, name, arrays[name], arrays[name].dtype)
        plausible = is_plausible(values)
        bad = ~plausible.all(-1) & out["visible"]
        if bad.any():
            frame, joint = np.argwhere(bad)[0]
            raise DataError(
                f"{path}: {name} is NaN, infinite or beyond reason at frame {frame}, joint {joint}, "
                f"frames with such: {bad.any(1).sum()}; mark it in 'visible' as False, or leave the frame out"
            )
        # invisible joints may hold anything; without a plausible number they have no label
        out[name] = np.where(plausible, values, np.nan).astype(np.float32)
    bad_frames = np.argwhere(~is_plausible(out["K"]))
    if len(bad_frames):
        raise DataError(f"{path}: K is NaN, infinite or beyond reason at frame {bad_frames[0][0]}")
    if "split" in arrays:
        out["split"] = arrays["split"].astype(str)
        unknown = sorted(set(out["split"].tolist()) - {"train", "val", "test"})
        if unknown:
            raise DataError(f"{path}: split holds {unknown[0]!r}; it may say train, val or test")
    return out


def _number(path: Path, name: str, array: Array, dtype: Any) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name} has dtype {array.dtype}, it must hold numbers")
    if array.dtype.kind == "f" and np.issubdtype(dtype, np.integer) and not is_plausible(array).all():
        raise DataError(f"{path}: {name} holds {array[~is_plausible(array)].flat[0]}, it must hold whole numbers")
    return array.astype(dtype)


def _flags(path: Path, name: str, array: Array) -> Array:
    """Booleans, or 1 and 0. Anything else, such as a confidence of 0.1, would pass as True."""
    numbers = _number(path, name, array, array.dtype)
    bad = (numbers != 0) & (numbers != 1)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(f"{path}: {name} is {numbers[at]} at frame {at[0]}; it must be True or False, or 1 or 0")
    return numbers.astype(bool)


def _select(path: Path, arrays: dict[str, Array], split: str) -> tuple[Array, str]:
    """The rows of a split, and a note on how they were selected."""
    count = len(arrays["is_left"])
    all_rows = np.arange(count)
    if split == "all":
        return all_rows, f"{path.name}: all {count} frames"
    if "split" in arrays:
        marks = arrays["split"]
        rows = all_rows[marks == split]
        note = f"{path.name}: {len(rows)} frames that its 'split' marks {split}"
        if split == "test" and not len(rows):
            rows = all_rows[marks == "val"]
            note = f"{path.name}: no frame is marked test, so the {len(rows)} marked val"
        if not len(rows):
            raise DataError(f"{path}: its 'split' marks no frame {split!r}; it has {', '.join(sorted(set(marks)))}")
        return rows, note
    if split == "test":
        return all_rows, f"{path.name}: it has no 'split', so all {count} frames"
    held_out = holdout_mask(split_units(arrays["group"]))
    rows = all_rows[held_out if split == "val" else ~held_out]
    if not len(rows):
        raise DataError(f"{path}: {count} frames in one group cannot be split; add a 'split' array, or more groups")
    units = "groups" if (arrays["group"] >= 0).any() else "frames"
    note = f"{path.name}: it has no 'split', so a fixed tenth of its {units} is held out"
    return rows, f"{note} ({len(rows)} {split} frames)"
