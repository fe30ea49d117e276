"""The processes that pack: each crops some samples and writes their pictures where they belong."""

from __future__ import annotations

import multiprocessing
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.packing.crops import CropOptions, JointMap, crop_sample
from cvhpe.errors import DataError, UserError
from cvhpe.io import child
from cvhpe.plugin.sample import Array, Dataset, Sample

_FIXED: dict[str, tuple[str, tuple[int, ...]]] = {"rgb": ("|u1", (3,)), "depth": ("<u2", ()), "mask": ("|u1", ())}
_CHUNK = 32
_CHUNK_JOINTS = 1024


@dataclass(frozen=True)
class Job:
    """What every process knows. ``files``: picture -> its type, the shape of one, and where the first one stands."""

    dataset: Dataset
    joints: JointMap
    options: CropOptions
    pictures: tuple[str, ...]
    folder: Path
    files: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]


def cores() -> int:
    """FusionParams many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def picture_types(dataset: Dataset, pictures: tuple[str, ...]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Type and trailing shape of every picture, from the first samples that have it."""
    known: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    for name in pictures:
        if name in _FIXED:
            known[name] = np.dtype(_FIXED[name][0]), _FIXED[name][1]
            continue
        image = next((s.images[name] for s in map(dataset.__getitem__, range(len(dataset))) if name in s.images), None)
        if image is not None:
            known[name] = (image.dtype.newbyteorder("<"), image.shape[2:])
    return known


def run(job: Job, count: int, workers: int) -> Iterator[tuple[int, dict[str, Array]]]:
    """Pack samples ``0`` to ``count``; yields how many are done and their small fields, in order.

    Raises the first fault as ``DataError``; what was not begun by then is not begun.
    """
    size = _CHUNK if job.pictures else _CHUNK_JOINTS
    chunks = [range(at, min(at + size, count)) for at in range(0, count, size)]
    if workers < 2 or len(chunks) < 2:
        for chunk in chunks:
            yield chunk.stop, _pack_chunk(job, chunk)
        return
    # Forked processes inherit the labels that were read and need no importable __main__. They run
    # numpy and Pillow only, never torch, whose threads a fork would not carry over.
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    pool = ProcessPoolExecutor(min(workers, len(chunks)), context, _begin, (job, os.getpid()))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            futures = {pool.submit(_pack_in_process, chunk): number for number, chunk in enumerate(chunks)}
        results: dict[int, dict[str, Array]] = {}
        done = yielded = 0
        for future in as_completed(futures):
            number = futures[future]
            results[number] = future.result()
            done += len(chunks[number])
            while yielded in results:
                yield done, results.pop(yielded)
                yielded += 1
    except BrokenProcessPool:
        raise DataError(
            f"{job.folder.parent}: a packing process was killed, perhaps for want of memory; use fewer workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_job: Job | None = None


def _begin(job: Job, parent: int) -> None:
    global _job
    _job = job
    child.begin(parent)


def _pack_in_process(chunk: range) -> dict[str, Array]:
    assert _job is not None
    return _pack_chunk(_job, chunk)


def _pack_chunk(job: Job, chunk: range) -> dict[str, Array]:
    """Crop some samples, write their pictures, and give back everything else."""
    rows: list[dict[str, Any]] = []
    written = {n: np.zeros((len(chunk), *shape), dtype) for n, (dtype, shape, _) in job.files.items()}
    for at, index in enumerate(chunk):
        sample = _read(job, index)
        try:
            row = crop_sample(sample, job.joints, job.options, job.pictures)
        except ValueError as error:  # labels that are numbers, but of nothing a camera could see
            raise DataError(f"sample {sample.id}: no crop can be made of its labels ({error}); leave it out") from None
        row["id"] = sample.id
        for name in job.pictures:
            picture = row.pop(name, None)
            row[f"has_{name}"] = picture is not None
            if picture is None:
                continue
            if name not in written or picture.shape != written[name].shape[1:]:
                raise UserError(f"sample {sample.id}: its picture {name!r} has another shape than those before it")
            written[name][at] = picture
        rows.append(row)
    for name, (dtype, shape, start) in job.files.items():
        with (job.folder / f"{name}.npy").open("r+b") as stream:
            stream.seek(start + chunk.start * int(np.prod(shape)) * dtype.itemsize)
            stream.write(written[name].data)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _read(job: Job, index: int) -> Sample:
    """One sample; a reader that can reads only the pictures that are wanted."""
    read_some = getattr(job.dataset, "read", None)
    try:
        return job.dataset[index] if read_some is None else read_some(index, job.pictures)
    except UserError:
        raise
    # what a reader of broken bytes runs into; readers name the file themselves where they can
    except (OSError, ValueError, LookupError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"sample {index}: cannot be read ({' '.join(str(error).split())[:200]})") from None
