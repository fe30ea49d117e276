"""Writes a folder of synthetic frames in RHD's layout, in parallel and atomically."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cvhpe.errors import DataError
from cvhpe.io.atomic import atomic_folder, write_error
from cvhpe.io.process_pool import imap_unordered, num_cores
from cvhpe.io.progress import ProgressCallback
from cvhpe.synthetic.frames import render_frames
from cvhpe.synthetic.rhd_writer import make_folders, write_annotations, write_images
from cvhpe.synthetic.sphere_tracing import TILE

Array = np.ndarray
Annotations = dict[int, dict[str, Array]]

VERSION = 1
"""Of the generator: another version makes other frames from the same seed."""

MARKER = "synthetic.json"
_CHUNK = 16


def split_sizes(count: int) -> dict[str, int]:
    """Number of frames of each split: one in ten is for evaluation, and at least one.

    >>> split_sizes(4000)
    {'training': 3600, 'evaluation': 400}
    """
    evaluation = max(1, count // 10)
    return {"training": count - evaluation, "evaluation": evaluation}


def generate(
    out: Path,
    count: int,
    seed: int = 0,
    *,
    size: int = 320,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> None:
    """Write synthetic frames in RHD's layout; the folder appears when it is complete.

    ``out/{training,evaluation}/{color,depth,mask}/%05d.png`` and ``anno_{split}.pickle``, see :func:`split_sizes`; no
    person is in both. One frame in four shows both hands of a person, the others one: the hand that is not shown is
    annotated outside the frame, no joint inside or visible. A frame depends on ``seed``, its split and its number, not
    on ``count`` or ``workers``.

    Args:
        out: The folder. If it holds this very data set, nothing is done.
        count: Number of frames, at least 2.
        seed: Any integer.
        size: Side of the frames, px, a multiple of 8.
        workers: Number of processes, by default one a core; 1 stays in the calling process.
        progress: Called with (frames done, frames in all).

    Raises:
        DataError: ``out`` holds anything else or cannot be written, or the frames cannot be made. Nothing is left
            behind then, nor after Ctrl-C.
    """
    out = Path(out).absolute()
    if count < 2:
        raise DataError(f"{out}: {count} synthetic frames cannot be divided into training and evaluation; ask for 2")
    if size < 64 or size % TILE:
        raise DataError(f"{out}: frames of {size} px: the side must be a multiple of {TILE}, 64 or more")
    recipe = {"generator": VERSION, "seed": int(seed), "count": count, "size": size}
    if _is_complete(out, recipe):
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(out, lambda: _is_complete(out, recipe)) as partial:
            _fill(partial, recipe, num_cores() if workers is None else workers, progress)
    except OSError as error:
        advice = "nothing was kept, make room or name another folder"
        raise DataError(write_error(out, error, advice, "name another folder")) from None


def _is_complete(out: Path, recipe: dict[str, int]) -> bool:
    """Whether a folder holds these frames; DataError if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        recipe_there = json.loads((out / MARKER).read_text())
    except (OSError, ValueError):
        raise DataError(f"{out}: holds something else than synthetic frames; name another folder") from None
    if recipe_there != recipe:
        raise DataError(f"{out}: holds other synthetic frames ({recipe_there}); remove it or name another folder")
    return True


def _fill(folder: Path, recipe: dict[str, int], workers: int, progress: ProgressCallback | None) -> None:
    count, sizes = recipe["count"], split_sizes(recipe["count"])
    tasks = []
    for split, many in sizes.items():
        make_folders(folder / split)
        tasks += [
            (folder / split, range(at, min(at + _CHUNK, many)), recipe["seed"], recipe["size"])
            for at in range(0, many, _CHUNK)
        ]
    annotations: dict[str, Annotations] = {split: {} for split in sizes}
    done = 0
    for _, (split, part) in imap_unordered(_work, tasks, workers, label=str(folder)):
        annotations[split] |= part
        done += len(part)
        if progress is not None:
            progress(done, count)
    for split, frames in annotations.items():
        write_annotations(folder / split, dict(sorted(frames.items())))
    (folder / MARKER).write_text(json.dumps(recipe) + "\n")


Task = tuple[Path, range, int, int]


def _work(task: Task) -> tuple[str, Annotations]:
    """Render and write some frames; their annotations."""
    folder, numbers, seed, size = task
    annotations = {}
    for number, labelled in zip(numbers, render_frames(np.array(numbers), seed, folder.name, size), strict=True):
        write_images(folder, number, labelled.frame.rgb, labelled.frame.depth, labelled.frame.mask)
        annotations[number] = labelled.annotation
    return folder.name, annotations
