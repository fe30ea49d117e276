"""A packed data set: a folder of ``.npy`` files, one a field, and their metadata in ``pack.json``.

Images stay on disk as memory maps; every other field is small and is read into memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cvhpe.data.holdout import HOLDOUT_FRACTION, holdout_mask, split_units
from cvhpe.errors import DataError
from cvhpe.plugin.sample import Array

FORMAT = 2
"""Version of the format; packs of another version are made again."""

UNITS = {
    "joints3d_mm": "mm, camera frame",
    "joints2d": "fraction of the crop, centre 0, edges +-0.5",
    "crop": "centre x, centre y, side; px of the frame",
    "scale_mm": "mm, the scale bone",
    "depth_z": "mm, depth of the hand's centre",
    "depth": "0 hole or background; 1 to 65535 from depth_z - cube_mm to depth_z + cube_mm",
}


@dataclass(frozen=True, kw_only=True)
class Meta:
    """The content of ``pack.json``.

    Args:
        count: number of samples.
        layout: of the stored joints.
        native: layout of the data set.
        root: what the root joint is, ``wrist`` or ``palm``.
        image_size: side of the image that the network sees, px.
        stored: side of the stored images, px; they show ``margin`` times the crop.
        margin: see :class:`cvhpe.data.packing.crops.CropOptions`.
        crop_factor: see there, ``factor``.
        crop_kind: see there, ``kind``.
        cube_mm: see there, ``cube``.
        name: of the data set.
        source: its path.
        split: its split.
        note: for the user: how the split was made and what this copy of it lacks.
        fields: name -> dtype and shape.
        units: name -> unit.
        versions: of the packages that made the pack.
        format: version of the format.
    """

    count: int
    layout: str
    native: str
    root: str
    image_size: int
    stored: int
    margin: float
    crop_factor: float
    crop_kind: str
    cube_mm: float
    name: str
    source: str
    split: str
    note: str = ""
    fields: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=lambda: dict(UNITS))
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class Pack:
    """One split of a data set, ready for training. ``pack["side"]`` is a field, ``len(pack)`` the number of samples.

    Fields ``(N, ...)``: ``joints3d_mm``, ``joints2d``, ``visible``, ``side``, ``root_shift_weight``, ``scale_mm``,
    ``K``, ``crop``, ``depth_z``, ``group``, ``id``, ``has_<field>``, and ``rgb``, ``depth``, ``mask`` if packed.
    """

    path: Path
    meta: Meta
    arrays: Mapping[str, Array]
    rows: Array | None = None

    @staticmethod
    def open(path: Path | str) -> Pack:
        """Open a pack; a file that is missing, damaged or of another pack is a ``DataError``."""
        path = Path(path)
        meta = _read_meta(path)
        arrays: dict[str, Array] = {}
        for name, (dtype, shape) in meta.fields.items():
            arrays[name] = _map(path / f"{name}.npy", np.dtype(dtype), shape, in_memory=name not in _image_fields(meta))
        return Pack(path, meta, arrays)

    def __len__(self) -> int:
        return self.meta.count if self.rows is None else len(self.rows)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Array:
        """A field ``(N, ...)``; images stay a memory map unless the pack is a subset."""
        return self.arrays[name] if self.rows is None else self.arrays[name][self.rows]

    @property
    def layout(self) -> str:
        return self.meta.layout

    @property
    def margin(self) -> float:
        return self.meta.margin

    @property
    def note(self) -> str:
        return self.meta.note

    @property
    def image_fields(self) -> tuple[str, ...]:
        """The fields that are images."""
        return _image_fields(self.meta)

    def take(self, name: str, index: Array, out: Array | None = None) -> Array:
        """Some samples of a field.

        Args:
            name: of the field.
            index: int ``(B,)``.
            out: where to write them; by default a new array.

        Returns:
            ``(B, ...)``.

        Raises:
            IndexError: If there is no such sample.
            DataError: If the file cannot be read.
        """
        rows = index if self.rows is None else self.rows[index]
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.meta.count):
            raise IndexError(f"sample {rows.max()} of {self.meta.count} in {self.path}")
        array = self.arrays[name]
        if isinstance(array, np.memmap):
            return _read_rows(self.path / f"{name}.npy", array, rows, out)
        # "clip" lets numpy write to out directly; the indices were checked above
        return np.take(array, rows, axis=0, out=out, mode="clip")

    def subset(self, selection: Array) -> Pack:
        """The samples of an index or a mask ``(N,)``; images are not copied."""
        rows = np.arange(self.meta.count) if self.rows is None else self.rows
        return replace(self, rows=rows[np.asarray(selection)])

    def limit(self, count: int | None) -> Pack:
        """The first ``count`` samples; all of them if it is None or 0."""
        return self if not count or count >= len(self) else self.subset(np.arange(count))

    def split(self, fraction: float = HOLDOUT_FRACTION) -> tuple[Pack, Pack]:
        """Training and held-out samples: a fixed ``fraction`` of the groups is held out."""
        held_out = holdout_mask(split_units(self["group"]), fraction)
        return self.subset(~held_out), self.subset(held_out)


def _image_fields(meta: Meta) -> tuple[str, ...]:
    size = (meta.count, meta.stored, meta.stored)
    return tuple(n for n, (dtype, shape) in meta.fields.items() if tuple(shape[:3]) == size and dtype in ("|u1", "<u2"))


def _read_meta(path: Path) -> Meta:
    file = path / "pack.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise DataError(f"{file}: pack format {raw['format']}, this version reads {FORMAT}; delete the folder")
        known = {f.name for f in fields(Meta)}
        listed = {n: (str(d), tuple(int(s) for s in shape)) for n, (d, shape) in raw["fields"].items()}
        return Meta(**{k: v for k, v in raw.items() if k in known} | {"fields": listed})
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); not a packed data set") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: damaged ({' '.join(str(error).split())[:80]}); delete the folder to pack it anew"
        ) from None


def _map(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...], *, in_memory: bool) -> Array:
    """Open a field, after a check of its header and size against ``pack.json``."""
    try:
        with file.open("rb") as stream:
            actual, start = _read_header(stream)
        size = start + int(np.prod(shape)) * dtype.itemsize
        if actual != (dtype, shape) or file.stat().st_size != size:
            raise DataError(
                f"{file}: {file.stat().st_size} bytes of {actual[1]} {actual[0]}, expected {size} of {shape} {dtype}; "
                "delete the folder to pack it anew"
            )
        if in_memory or not all(shape):
            return np.load(file, allow_pickle=False)
        return np.memmap(file, dtype, "r", start, shape)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); delete the folder to pack it anew") from None
    except ValueError as error:
        raise DataError(f"{file}: damaged ({error}); delete the folder to pack it anew") from None


def _read_rows(file: Path, array: np.memmap[Any, Any], rows: Array, out: Array | None) -> Array:
    """Rows of a mapped field, read from the file: through the map, a fault of the disk would crash the process."""
    if out is None:
        out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    size = array.dtype.itemsize * int(np.prod(array.shape[1:]))
    flat = out.reshape(len(rows), -1).view(np.uint8)
    try:
        handle = os.open(file, os.O_RDONLY)
        try:
            for target, row in zip(flat, rows.tolist(), strict=True):
                if os.preadv(handle, [target.data], array.offset + row * size) != size:
                    raise DataError(f"{file}: ends before sample {row}; delete the folder to pack it anew")
        finally:
            os.close(handle)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); delete the folder to pack it anew") from None
    return out


def _read_header(stream: BinaryIO) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], int]:
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f".npy version {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran:
        raise ValueError("column-major")
    return (dtype, shape), stream.tell()


def create_npy(file: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Make a ``.npy`` file of zeros with its space reserved, so that a full disk fails here and not in a memory map.

    Args:
        file: its path.
        dtype: of the array.
        shape: of the array.

    Returns:
        The byte at which the values start.
    """
    with file.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.flush()
        start = stream.tell()
        size = start + int(np.prod(shape)) * dtype.itemsize
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(stream.fileno(), 0, size)
        stream.truncate(size)
    return start


def write_meta(path: Path, meta: Meta) -> None:
    """Write ``pack.json``, the last file of a pack.

    Args:
        path: folder of the pack.
        meta: its metadata.
    """
    (path / "pack.json").write_text(json.dumps(asdict(meta), indent=1) + "\n", encoding="utf-8")
