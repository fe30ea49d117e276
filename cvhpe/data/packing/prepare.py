"""Pack a data set once: decode, crop and convert on all cores into a :class:`cvhpe.data.packing.pack.Pack`.

The name of a pack holds a digest of its source and options, so that a second run finds it and starts at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.packing.crops import CropOptions, JointMap
from cvhpe.data.packing.pack import FORMAT, Meta, Pack, create_npy, write_meta
from cvhpe.data.packing.worker import ImageFile, PackingJob, pack_range
from cvhpe.data.reader import split_note
from cvhpe.errors import DataError, UserError
from cvhpe.io.atomic import make_folder_once
from cvhpe.io.cache import cache_dir
from cvhpe.io.process_pool import imap_unordered, num_cores
from cvhpe.io.progress import ProgressCallback
from cvhpe.plugin.sample import Array, Dataset, DatasetSpec

POINTS = ("joints2d", "joints3d")
_IMAGE_TYPES: dict[str, tuple[str, tuple[int, ...]]] = {"rgb": ("|u1", (3,)), "depth": ("<u2", ()), "mask": ("|u1", ())}
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".bin", ".webp", ".tif", ".tiff")
_FEW_IMAGES = 64  # samples that one process packs as fast as it starts others
_CHUNK_IMAGES, _CHUNK_JOINTS = 32, 1024  # samples of a task


@dataclass(frozen=True)
class _Request:
    """One split of a data set, and how it is packed."""

    spec: DatasetSpec
    source: Path | None
    split: str
    options: CropOptions
    fields: list[str]
    limit: int


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
    progress: ProgressCallback | None = None,
    crop_factor: float = 1.25,
    cube_mm: float = 150.0,
    cache: Path | None = None,
) -> Pack:
    """The pack of one split of a data set: made now, or opened if an earlier run made it.

    Args:
        spec: the data set.
        path: where it lies; None if it needs no path.
        split: one of ``spec.splits``.
        image_size: see :class:`cvhpe.data.packing.crops.CropOptions`.
        margin: see there.
        fields: what the modalities read; fields that the data set lacks are left out.
        limit: pack only the first so many samples.
        workers: processes; by default one a core.
        progress: called with the number of packed samples and of all.
        crop_factor: see ``CropOptions.factor``.
        cube_mm: see ``CropOptions.cube``.
        cache: folder for packs; by default :func:`cvhpe.io.cache.cache_dir`.

    Returns:
        The pack.

    Raises:
        DataError: For every fault of the data or the disk, in one line. Nothing incomplete stays on disk.
        UserError: If the data set has no such split, or declares an unknown root.
    """
    if split not in spec.splits:
        raise UserError(f"data set {spec.name!r} has no split {split!r}; have: {', '.join(spec.splits)}")
    options = CropOptions(image_size=image_size, margin=margin, factor=crop_factor, cube=cube_mm, kind=spec.crop)
    if spec.locate is not None:
        path = spec.locate(None if path is None else Path(path), progress)
    source = None if path is None else Path(path).absolute()
    request = _Request(spec, source, split, options, sorted(set(fields) & set(spec.fields)), limit or 0)
    packs = (cache_dir() if cache is None else Path(cache)).absolute() / "packs"

    def make(folder: Path) -> None:
        dataset = _open(spec, None if path is None else Path(path), split)
        _pack(folder, request, dataset, workers or num_cores(), progress)

    return Pack.open(make_folder_once(packs / f"{spec.name}-{split}-{_key(request, packs)}", "pack.json", make))


def _open(spec: DatasetSpec, path: Path | None, split: str) -> Dataset:
    try:
        return spec.open(path, split)
    except OSError as error:  # a reader that does not report it itself
        raise DataError(f"{path or spec.name}: cannot be read ({error})") from None


def _pack(folder: Path, request: _Request, dataset: Dataset, workers: int, progress: ProgressCallback | None) -> None:
    spec, options = request.spec, request.options
    count = min(len(dataset), request.limit or len(dataset))
    if not count:
        raise DataError(f"{request.source or spec.name}: its split {request.split!r} holds no sample")
    if dataset.root not in ("wrist", "palm"):
        raise UserError(f"data set {spec.name!r} says its root is {dataset.root!r}; it is a wrist or a palm")
    joints = JointMap.of(dataset.layout)
    image_fields = tuple(name for name in request.fields if name not in POINTS)
    files: dict[str, ImageFile] = {}
    for name, (dtype, tail) in _image_types(dataset, image_fields).items():
        shape = (options.stored, options.stored, *tail)
        files[name] = ImageFile(dtype, shape, create_npy(folder / f"{name}.npy", dtype, (count, *shape)))
    job = PackingJob(dataset, joints, options, image_fields, folder, files)
    arrays = _pack_all(job, count, 1 if not image_fields or count < _FEW_IMAGES else workers, progress)
    arrays["root_shift_weight"] = np.full(count, 0.5 if dataset.root == "wrist" else 0.0, np.float32)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    fields = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    fields |= {name: (file.dtype.str, (count, *file.shape)) for name, file in files.items()}
    meta = Meta(
        count=count,
        layout=joints.name,
        native=dataset.layout,
        root=dataset.root,
        image_size=options.image_size,
        stored=options.stored,
        margin=options.margin,
        crop_factor=options.factor,
        crop_kind=options.kind,
        cube_mm=options.cube,
        name=spec.name,
        source=str(request.source or ""),
        split=request.split,
        note=split_note(dataset, spec, request.split, request.source),
        fields=fields,
        versions={"cvhpe": _version(), "numpy": np.__version__},
    )
    write_meta(folder, meta)


def _image_types(dataset: Dataset, fields: tuple[str, ...]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Image field -> its type and its shape after height and width; fields that no sample has are left out."""
    types: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    for name in fields:
        if name in _IMAGE_TYPES:
            dtype, tail = _IMAGE_TYPES[name]
            types[name] = np.dtype(dtype), tail
            continue
        samples = (dataset[i] for i in range(len(dataset)))
        image = next((s.images[name] for s in samples if name in s.images), None)
        if image is not None:
            types[name] = image.dtype.newbyteorder("<"), image.shape[2:]
    return types


def _pack_all(job: PackingJob, count: int, workers: int, progress: ProgressCallback | None) -> dict[str, Array]:
    """Every field that is not an image, of samples ``0`` to ``count``."""
    size = _CHUNK_IMAGES if job.image_fields else _CHUNK_JOINTS
    chunks = [range(at, min(at + size, count)) for at in range(0, count, size)]
    packed: dict[int, dict[str, Array]] = {}
    done = 0
    for number, arrays in imap_unordered(partial(pack_range, job), chunks, workers, label=str(job.folder.parent)):
        packed[number] = arrays
        done += len(chunks[number])
        if progress is not None:
            progress(done, count)
    return {name: np.concatenate([packed[i][name] for i in range(len(chunks))]) for name in packed[0]}


def _version() -> str:
    try:
        return version("cvhpe")
    except PackageNotFoundError:
        return "not installed"


def _key(request: _Request, packs: Path) -> str:
    """Sixteen hex digits that change with everything a pack depends on."""
    spec, source = request.spec, request.source
    settings = [FORMAT, spec.name, spec.api, request.split, asdict(request.options), request.fields, request.limit]
    digest = hashlib.sha256(json.dumps([*settings, str(source)]).encode())
    for line in _source_state(source, packs):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _source_state(source: Path | None, packs: Path) -> Iterator[str]:
    """Size and time of the source's files, and of images the number and time of their folders.

    ``packs`` is left out, in case the cache lies in the data set. An image that was changed in place goes unnoticed:
    looking at each of a hundred thousand would take too long.
    """
    if source is None:
        return
    root = Path(str(source).rpartition("?")[0]) if "?" in str(source) and not source.exists() else source
    if root.is_file():
        stat = root.stat()
        yield f"{stat.st_size} {stat.st_mtime_ns}"
        return
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if Path(folder, name) != packs)
        num_images = 0
        for name in sorted(names):
            if name.lower().endswith(_IMAGE_SUFFIXES):
                num_images += 1
            else:
                stat = os.lstat(os.path.join(folder, name))
                yield f"{os.path.relpath(folder, root)}/{name} {stat.st_size} {stat.st_mtime_ns}"
        if num_images:
            yield f"{os.path.relpath(folder, root)} {num_images} {os.stat(folder).st_mtime_ns}"
