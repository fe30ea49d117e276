"""A packed data set: a folder of ``.npy`` files, one a field, and ``pack.json`` that says what they are.

Pictures stay on disk as memory maps; everything else is small and lives in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cvhpe.errors import DataError
from cvhpe.plugin.sample import Array

FORMAT = 2
"""Version of the layout of a pack; another one is packed again."""

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
    """What ``pack.json`` says.

    layout: of the stored joints; native: of the data set. root: what the root joint is, wrist or palm.
    margin: stored pictures show this many times the crop. image_size: px that the network sees of the
    ``stored`` ones. source, split: what was packed. note: how the split came about
    and what this copy of it lacks, for people.
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
    """One split of a data set, ready for training. ``pack["side"]`` is a field, ``len(pack)`` its samples.

    Fields ``(N, ...)``: ``joints3d_mm``, ``joints2d``, ``visible``, ``side``, ``palm``, ``scale_mm``, ``K``, ``crop``,
    ``depth_z``, ``group``, ``id``, ``has_<field>``, and the pictures ``rgb``, ``depth``, ``mask`` where packed.
    """

    path: Path
    meta: Meta
    arrays: Mapping[str, Array]
    rows: Array | None = None

    @staticmethod
    def open(path: Path | str) -> Pack:
        """Open a pack; ``DataError`` names the file that is missing, truncated or not of this pack."""
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
        """A field of all samples ``(N, ...)``; of pictures only of whole packs it stays a memory map."""
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
        """The fields that are stored pictures."""
        return _image_fields(self.meta)

    def take(self, name: str, index: Array, out: Array | None = None) -> Array:
        """Some samples of a field ``(len(index), ...)``, into ``out`` where one is given."""
        rows = index if self.rows is None else self.rows[index]
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.meta.count):
            raise IndexError(f"sample {rows.max()} of {self.meta.count} in {self.path}")
        array = self.arrays[name]
        if isinstance(array, np.memmap):
            return _read_rows(self.path / f"{name}.npy", array, rows, out)
        # "clip" lets numpy write to out directly; the indices were checked above
        return np.take(array, rows, axis=0, out=out, mode="clip")

    def subset(self, which: Array) -> Pack:
        """The samples of an index or a mask ``(N,)``; pictures are not copied."""
        rows = np.arange(self.meta.count) if self.rows is None else self.rows
        return replace(self, rows=rows[np.asarray(which)])

    def limit(self, count: int | None) -> Pack:
        """The first ``count`` samples; all of them where it is None or 0."""
        return self if not count or count >= len(self) else self.subset(np.arange(count))

    def split(self, share: float = 0.1) -> tuple[Pack, Pack]:
        """Training and held-out samples: a fixed ``share`` of the groups, or of the samples where none is grouped."""
        from cvhpe.data.datasets.joints_npz import held_out, units_of

        held = held_out(units_of(self["group"]), share)
        return self.subset(~held), self.subset(held)


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
    """Open one field, after its header and its size were compared with what ``pack.json`` says."""
    try:
        with file.open("rb") as stream:
            found, start = _read_header(stream)
        whole = start + int(np.prod(shape)) * dtype.itemsize
        if found != (dtype, shape) or file.stat().st_size != whole:
            raise DataError(
                f"{file}: {file.stat().st_size} bytes of {found[1]} {found[0]}, expected {whole} of {shape} {dtype}; "
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
    """Rows of a mapped field, read and not looked up: a fault of the disk is then an error, where a map would crash."""
    if out is None:
        out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    size = array.dtype.itemsize * int(np.prod(array.shape[1:]))
    flat = out.reshape(len(rows), -1).view(np.uint8)
    try:
        handle = os.open(file, os.O_RDONLY)
        try:
            for place, row in zip(flat, rows.tolist(), strict=True):
                if os.preadv(handle, [place.data], array.offset + row * size) != size:
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
    """Make a ``.npy`` file of zeros with its whole space reserved; returns where the values start.

    ``OSError`` where the disk is too full: a memory map of a file without its space would only fail later,
    as a crash.
    """
    with file.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.flush()
        start = stream.tell()
        whole = start + int(np.prod(shape)) * dtype.itemsize
        if hasattr(os, "posix_fallocate") and whole:
            os.posix_fallocate(stream.fileno(), 0, whole)
        stream.truncate(whole)
    return start


def write_meta(path: Path, meta: Meta) -> None:
    """Write ``pack.json``, the last file of a pack."""
    (path / "pack.json").write_text(json.dumps(asdict(meta), indent=1) + "\n", encoding="utf-8")
