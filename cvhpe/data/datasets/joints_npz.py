"""Joints without images: one ``.npz`` with ``joints3d_mm``, ``joints2d_px``, ``K``, ``is_left``, ``layout``.

Optional: ``visible`` (N, J), ``split`` (N,) of train / val / test, ``group`` (N,) of what belongs together,
``root`` (``wrist`` or ``palm``) for the layout ``hand21``, which alone does not say what its root is.
Where the file has no ``split``, a tenth of the groups (of the frames, where it has no groups) is held
out by a fixed draw, and the reader's ``note`` says so.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.files import sensible
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.skeleton import layout as find_layout
from cvhpe.plugin.sample import Array, DatasetSpec, Sample

SPLITS = ("train", "val", "test", "all")
_NEEDED = ("joints3d_mm", "joints2d_px", "K", "is_left", "layout")
_OPTIONAL = ("visible", "split", "group", "root")
_HELD_OUT = 0.1


class Joints:
    """One split of a ``joints`` file. ``note`` says in one line how the split came about.

    ``test`` gives the frames marked test; where none is marked the validation frames; and every frame of a
    file that has no ``split`` at all. ``all`` gives every frame.
    """

    def __init__(self, path: Path | None, split: str) -> None:
        if path is None:
            raise DataError("the joints data set is a file of yours: name it, as in --data joints:hands.npz")
        if split not in SPLITS:
            raise UserError(f"joints has no split {split!r}; have: {', '.join(SPLITS)}")
        self.path = Path(path)
        arrays = _read(self.path)
        self.layout = find_layout(str(arrays["layout"])).name
        self.root = _root(self.path, find_layout(self.layout).root_kind, arrays)
        self._arrays = arrays
        self._rows, self.note = _choose(self.path, arrays, split)
        behind = int((arrays["joints3d_mm"][self._rows, :, 2] <= 0).any(1).sum())
        if behind:
            self.note += f"; {behind} of them with a joint behind the camera (z <= 0), where it has no image"

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self, index: int) -> Sample:
        """The sample, which has no pictures; so that checks look at every one."""
        return self[index]

    def __getitem__(self, index: int) -> Sample:
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
    """The checked arrays of a file; every fault is one line."""
    if path.is_dir():
        raise DataError(f"{path}: a folder; the joints data set is one .npz file")
    try:
        file = np.load(path, mmap_mode="r", allow_pickle=False)  # the mode keeps a lone .npy from being read
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: not an .npz file; write it with numpy.savez({', '.join(_NEEDED)})")
        with file:
            arrays: dict[str, Array] = {name: file[name] for name in file.files if name in (*_NEEDED, *_OPTIONAL)}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path after 'joints:'") from None
    # a zip or an .npy of something else, cut short, one that holds objects, or (RuntimeError) is encrypted or of a
    # version that zipfile does not know
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:100]
        if "allow_pickle" in str(error) or "pickled" in str(error):  # numpy would advise to load it unsafely
            reason = "it holds Python objects, or is no array file at all"
        raise DataError(f"{path}: not a whole .npz file of plain arrays ({reason})") from None
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; a joints file has {', '.join(_NEEDED)}")
    return _checked(path, arrays)


def _root(path: Path, kind: str, arrays: dict[str, Array]) -> str:
    said = str(arrays["root"]) if "root" in arrays else kind
    if said == "any":
        raise DataError(f"{path}: layout hand21 does not say whether its root is a wrist or a palm; add root='wrist'")
    if said not in ("wrist", "palm") or kind not in ("any", said):
        raise DataError(f"{path}: root is {said!r}, with layout {arrays['layout']} it must be {kind!r}")
    return said


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
        sound = sensible(values)
        bad = ~sound.all(-1) & out["visible"]
        if bad.any():
            frame, joint = np.argwhere(bad)[0]
            raise DataError(
                f"{path}: {name} is NaN, infinite or beyond reason at frame {frame}, joint {joint}, "
                f"frames with such: {bad.any(1).sum()}; mark it in 'visible' as False, or leave the frame out"
            )
        # an infinity that is not visible is no label either
        out[name] = np.where(sound, values, np.nan).astype(np.float32)
    odd = np.argwhere(~sensible(out["K"]))
    if len(odd):
        raise DataError(f"{path}: K is NaN, infinite or beyond reason at frame {odd[0][0]}")
    if "split" in arrays:
        out["split"] = arrays["split"].astype(str)
        unknown = sorted(set(out["split"].tolist()) - {"train", "val", "test"})
        if unknown:
            raise DataError(f"{path}: split holds {unknown[0]!r}; it may say train, val or test")
    return out


def _number(path: Path, name: str, array: Array, dtype: Any) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: {name} has dtype {array.dtype}, it must hold numbers")
    if array.dtype.kind == "f" and np.issubdtype(dtype, np.integer) and not sensible(array).all():
        raise DataError(f"{path}: {name} holds {array[~sensible(array)].flat[0]}, it must hold whole numbers")
    return array.astype(dtype)


def _flags(path: Path, name: str, array: Array) -> Array:
    """True and False, or 1 and 0. A side of 1 or 2, or a confidence of 0.1, would pass as True and mean nothing."""
    numbers = _number(path, name, array, array.dtype)
    odd = (numbers != 0) & (numbers != 1)
    if odd.any():
        at = tuple(int(i) for i in np.argwhere(odd)[0])
        raise DataError(f"{path}: {name} is {numbers[at]} at frame {at[0]}; it must be True or False, or 1 or 0")
    return numbers.astype(bool)


def _choose(path: Path, arrays: dict[str, Array], split: str) -> tuple[Array, str]:
    """Rows of a split, and how they were chosen."""
    count = len(arrays["is_left"])
    everything = np.arange(count)
    if split == "all":
        return everything, f"{path.name}: all {count} frames"
    if "split" in arrays:
        marks = arrays["split"]
        rows = everything[marks == split]
        note = f"{path.name}: {len(rows)} frames that its 'split' marks {split}"
        if split == "test" and not len(rows):
            rows = everything[marks == "val"]
            note = f"{path.name}: no frame is marked test, so the {len(rows)} marked val"
        if not len(rows):
            raise DataError(f"{path}: its 'split' marks no frame {split!r}; it has {', '.join(sorted(set(marks)))}")
        return rows, note
    if split == "test":
        return everything, f"{path.name}: it has no 'split', so all {count} frames"
    grouped = bool((arrays["group"] >= 0).any())
    held = held_out(units_of(arrays["group"]))
    rows = everything[held if split == "val" else ~held]
    if not len(rows):
        raise DataError(f"{path}: {count} frames in one group cannot be split; add a 'split' array, or more groups")
    what = "groups" if grouped else "frames"
    return (
        rows,
        f"{path.name}: it has no 'split', so a fixed tenth of its {what} is held out ({len(rows)} {split} frames)",
    )


def units_of(group: Array) -> Array:
    """What a split must not tear apart ``(N,)``: the group, or the frame itself where its group is -1.

    >>> units_of(np.array([5, -1, 5, -1]))
    array([ 5, -2,  5, -4])
    """
    return np.where(group >= 0, group, -1 - np.arange(len(group)))


def held_out(units: Array, share: float = _HELD_OUT) -> Array:
    """Which rows ``(N,)`` bool are held out for validation: ``share`` of the units, whole units only, always the same.

    At least one unit is held out where there are two.

    >>> held = held_out(np.repeat(np.arange(20), 5))
    >>> int(held.sum())
    10
    """
    unique = np.unique(units)
    many = min(max(round(len(unique) * share), 1), len(unique) - 1)
    chosen = np.random.default_rng(20180618).permutation(unique)[:many]
    return np.isin(units, chosen)


def spec() -> DatasetSpec:
    return DatasetSpec(
        name="joints",
        open=Joints,
        layout=None,
        root="wrist",
        fields=("joints2d", "joints3d"),
        splits=SPLITS,
        about="one .npz of 2D and 3D joints, in a layout it names",
    )
