"""Pack a data set once: decode, crop and convert on all cores into a :class:`cvhpe.data.packing.pack.Pack`.

The name of a pack holds a fingerprint of the source and of the options, so that a second run finds it and
starts at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.packing import pool
from cvhpe.data.packing.crops import CropOptions, JointMap
from cvhpe.data.packing.pack import FORMAT, Meta, Pack, create, write_meta
from cvhpe.data.reader import remarks
from cvhpe.errors import DataError, UserError
from cvhpe.io.atomic import make_once
from cvhpe.io.cache import cache_dir
from cvhpe.plugin.sample import Array, Dataset, DatasetSpec

Progress = Callable[[int, int], None]

POINTS = ("joints2d", "joints3d")
_PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".bin", ".webp", ".tif", ".tiff")
_FEW = 64  # samples with pictures that one process packs as fast as it starts others


def prepare(
    spec: DatasetSpec,
    path: Path | str | None,
    split: str,
    *,
    image_size: int = 256,
    margin: float = 1.5,
    fields: Iterable[str] = POINTS,
    limit: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    crop_factor: float = 1.25,
    cube_mm: float = 150.0,
    cache: Path | None = None,
) -> Pack:
    """The pack of one split of a data set: made now, or found from an earlier run.

    image_size, margin, crop_factor, cube_mm: see :class:`cvhpe.data.packing.crops.CropOptions`. fields: what the
    modalities read; those that the data set does not have are left out, and the loader says so sample by
    sample. limit: pack the first so many samples. workers: processes, by default one a core. progress:
    called with the number of samples done and of all. cache: folder for packs.

    Raises ``DataError`` in one line for every fault of the data or the disk, ``UserError`` for a wrong
    option; nothing half-written stays behind.
    """
    if split not in spec.splits:
        raise UserError(f"data set {spec.name!r} has no split {split!r}; have: {', '.join(spec.splits)}")
    options = CropOptions(image_size=image_size, margin=margin, factor=crop_factor, cube=cube_mm, kind=spec.crop)
    wanted = sorted(set(fields) & set(spec.fields))
    if spec.locate is not None:
        path = spec.locate(None if path is None else Path(path), progress)
    source = None if path is None else Path(path).absolute()
    folder = (cache_dir() if cache is None else Path(cache)).absolute() / "packs"
    key = _key(spec, source, split, options, wanted, limit, folder)
    place = folder / f"{spec.name}-{split}-{key}"

    def make(part: Path) -> None:
        _pack(part, spec, _open(spec, path, split), source, split, options, wanted, limit, workers, progress)

    return Pack.open(make_once(place, "pack.json", make))


def _open(spec: DatasetSpec, path: Path | str | None, split: str) -> Dataset:
    try:
        return spec.open(None if path is None else Path(path), split)
    except OSError as error:  # a reader that does not say it itself
        raise DataError(f"{path or spec.name}: cannot be read ({error})") from None


def _pack(
    made: Path,
    spec: DatasetSpec,
    dataset: Dataset,
    source: Path | None,
    split: str,
    options: CropOptions,
    wanted: list[str],
    limit: int | None,
    workers: int | None,
    progress: Progress | None,
) -> None:
    count = min(len(dataset), limit or len(dataset))
    if not count:
        raise DataError(f"{source or spec.name}: its split {split!r} holds no sample")
    if dataset.root not in ("wrist", "palm"):
        raise UserError(f"data set {spec.name!r} says its root is {dataset.root!r}; it is a wrist or a palm")
    joints = JointMap.of(dataset.layout)
    pictures = tuple(name for name in wanted if name not in POINTS)
    size = options.stored
    files: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]] = {}
    for name, (dtype, tail) in pool.picture_types(dataset, pictures).items():
        shape = (size, size, *tail)
        files[name] = (dtype, shape, create(made / f"{name}.npy", dtype, (count, *shape)))
    job = pool.Job(dataset, joints, options, pictures, made, files)
    many = 1 if not pictures or count < _FEW else workers or pool.cores()
    parts: list[dict[str, Array]] = []
    for done, part in pool.run(job, count, many):
        parts.append(part)
        if progress is not None:
            progress(done, count)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["root_shift_weight"] = np.full(count, 0.5 if dataset.root == "wrist" else 0.0, np.float32)
    for name, array in arrays.items():
        np.save(made / f"{name}.npy", array, allow_pickle=False)
    listed = {n: (a.dtype.str, a.shape) for n, a in arrays.items()}
    listed |= {n: (d.str, (count, *shape)) for n, (d, shape, _) in files.items()}
    meta = Meta(
        count=count,
        layout=joints.name,
        native=dataset.layout,
        root=dataset.root,
        image_size=options.image_size,
        stored=size,
        margin=options.margin,
        crop_factor=options.factor,
        crop_kind=options.kind,
        cube_mm=options.cube,
        name=spec.name,
        source=str(source or ""),
        split=split,
        note=remarks(dataset, spec, split, source),
        fields=listed,
        versions={"cvhpe": _version(), "numpy": np.__version__},
    )
    write_meta(made, meta)


def _version() -> str:
    try:
        return version("cvhpe")
    except PackageNotFoundError:
        return "not installed"


def _key(
    spec: DatasetSpec,
    source: Path | None,
    split: str,
    options: CropOptions,
    wanted: list[str],
    limit: int | None,
    ours: Path,
) -> str:
    """Sixteen hex digits that change with everything a pack depends on."""
    said = [FORMAT, spec.name, spec.api, split, asdict(options), wanted, limit or 0, str(source)]
    digest = hashlib.sha256(json.dumps(said).encode())
    for line in _traces(source, ours):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _traces(source: Path | None, ours: Path) -> Iterator[str]:
    """What betrays a change of the source: size and time of its files; of pictures how many a folder has.

    ``ours`` is the folder of packs, should somebody keep it in the data set. A picture that was changed in
    place goes unseen: to look at a hundred thousand of them would cost more than it is worth.
    """
    if source is None:
        return
    where = Path(str(source).rpartition("?")[0]) if "?" in str(source) and not source.exists() else source
    if where.is_file():
        stat = where.stat()
        yield f"{stat.st_size} {stat.st_mtime_ns}"
        return
    for folder, below, names in os.walk(where):
        below[:] = sorted(name for name in below if Path(folder, name) != ours)
        pictures = 0
        for name in sorted(names):
            if name.lower().endswith(_PICTURE_ENDINGS):
                pictures += 1
            else:
                stat = os.lstat(os.path.join(folder, name))
                yield f"{os.path.relpath(folder, where)}/{name} {stat.st_size} {stat.st_mtime_ns}"
        if pictures:
            yield f"{os.path.relpath(folder, where)} {pictures} {os.stat(folder).st_mtime_ns}"
