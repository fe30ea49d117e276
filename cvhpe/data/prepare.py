"""Pack a data set once: decode, crop and convert on all cores into a :class:`cvhpe.data.pack.Pack`.

A pack is made in a folder of its own beside its place and renamed at the end, so that what lies in its
place is always whole; its name holds a fingerprint of the source and of the options, so that a second
run finds it and starts at once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data import work
from cvhpe.data.cache import cache_dir
from cvhpe.data.crops import CropOptions, JointMap
from cvhpe.data.pack import FORMAT, Meta, Pack, create, write_meta
from cvhpe.data.sample import Array, Dataset, DatasetSpec
from cvhpe.errors import DataError, UserError

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

    image_size, margin, crop_factor, cube_mm: see :class:`cvhpe.data.crops.CropOptions`. fields: what the
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
    dataset = None
    if path is None:
        dataset = spec.open(None, split)
        source = getattr(dataset, "path", None)
    else:
        source = Path(path).absolute()
    key = _key(spec, source, split, options, wanted, limit)
    folder = (cache_dir() if cache is None else Path(cache)) / "packs"
    place = folder / f"{spec.name}-{split}-{key}"
    if (place / "pack.json").exists():
        return Pack.open(place)
    with _reporting(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{place.name}.lock"):
            if (place / "pack.json").exists():  # made while we waited
                return Pack.open(place)
            dataset = dataset or spec.open(None if path is None else Path(path), split)
            made = folder / f"{place.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
            made.mkdir()
            try:
                _pack(made, spec, dataset, source, split, options, wanted, limit, workers, progress)
                _move(made, place)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return Pack.open(place)


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
    layout_of = work.picture_types(dataset, pictures, options)
    size = options.stored
    files: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]] = {}
    for name, (dtype, tail) in layout_of.items():
        shape = (count, size, size, *tail)
        files[name] = (dtype, shape, create(made / f"{name}.npy", dtype, shape))
    job = work.Job(
        dataset, joints, options, pictures, made, {n: (d, s[1:], start) for n, (d, s, start) in files.items()}
    )
    many = 1 if not pictures or count < _FEW else workers or work.cores()
    parts: list[dict[str, Array]] = []
    for done, part in work.run(job, count, many):
        parts.append(part)
        if progress is not None:
            progress(done, count)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["palm"] = np.full(count, 0.5 if dataset.root == "wrist" else 0.0, np.float32)
    for name, array in arrays.items():
        start = create(made / f"{name}.npy", array.dtype, array.shape)
        with (made / f"{name}.npy").open("r+b") as stream:
            stream.seek(start)
            stream.write(np.ascontiguousarray(array).tobytes())
    listed = {n: (a.dtype.str, a.shape) for n, a in arrays.items()}
    listed |= {n: (d.str, shape) for n, (d, shape, _) in files.items()}
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
        note=str(getattr(dataset, "note", "")),
        fields=listed,
        versions={"cvhpe": _version(), "numpy": np.__version__},
    )
    write_meta(made, meta)


def _move(made: Path, place: Path) -> None:
    try:
        os.replace(made, place)
    except OSError:
        # somebody without our lock was quicker, or what lies there is the rest of a deleted pack
        if (place / "pack.json").exists():
            return
        shutil.rmtree(place, ignore_errors=True)
        os.replace(made, place)


def _version() -> str:
    try:
        return version("cvhpe")
    except PackageNotFoundError:
        return "not installed"


def _key(
    spec: DatasetSpec, source: Path | None, split: str, options: CropOptions, wanted: list[str], limit: int | None
) -> str:
    """Sixteen hex digits that change with everything a pack depends on."""
    said = [FORMAT, spec.name, spec.api, spec.open.__module__, split, asdict(options), wanted, limit or 0, str(source)]
    digest = hashlib.sha256(json.dumps(said).encode())
    for line in _traces(source):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _traces(source: Path | None) -> Iterator[str]:
    """What betrays a change of the source: size and time of its files; of pictures only how many a folder has.

    A picture that was changed in place goes unseen: looking at the time of a hundred thousand files would
    cost more than it is worth. Delete the pack then.
    """
    if source is None:
        return
    where = Path(str(source).rpartition("?")[0]) if "?" in str(source) and not source.exists() else source
    if where.is_file():
        stat = where.stat()
        yield f"{stat.st_size} {stat.st_mtime_ns}"
        return
    for folder, below, names in os.walk(where):
        below.sort()
        pictures = 0
        for name in sorted(names):
            if name.lower().endswith(_PICTURE_ENDINGS):
                pictures += 1
            else:
                stat = os.stat(os.path.join(folder, name))
                yield f"{os.path.relpath(folder, where)}/{name} {stat.st_size} {stat.st_mtime_ns}"
        yield f"{os.path.relpath(folder, where)} {pictures} {os.stat(folder).st_mtime_ns}"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process at a time pack into a place; the lock falls with its holder, however that ends."""
    try:
        import fcntl
    except ImportError:  # elsewhere two may pack the same at once: each in its own folder, the first one stays
        yield
        return
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:  # a network disk without locks
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            yield
            return
        for rest in lock.parent.glob(f"{lock.name.removesuffix('.lock')}.*.part"):  # of a process that was killed
            shutil.rmtree(rest, ignore_errors=True)
        yield


@contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    """Turn a full or failing disk into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"{folder}: the disk is full; free space there, or set CVHPE_CACHE to another disk"
            ) from None
        raise DataError(f"{folder}: cannot be written ({error}); set CVHPE_CACHE to a folder that can") from None
