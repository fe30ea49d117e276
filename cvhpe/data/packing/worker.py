"""What each packing process does: crop some samples, write their images in place and return every other field."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.data.packing.crops import CropOptions, JointMap, crop_sample
from cvhpe.errors import DataError, UserError
from cvhpe.plugin.sample import Array, Dataset, Sample


@dataclass(frozen=True)
class ImageFile:
    """A ``.npy`` file of images: their type, the shape of one, and the byte at which the first one starts."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class PackingJob:
    """What every packing process knows; ``files`` maps the names of image fields to files in ``folder``."""

    dataset: Dataset
    joints: JointMap
    options: CropOptions
    image_fields: tuple[str, ...]
    folder: Path
    files: dict[str, ImageFile]


def pack_range(job: PackingJob, indices: range) -> dict[str, Array]:
    """Crop consecutive samples and write their images to the files of the pack.

    Args:
        job: the data set and the files.
        indices: numbers of the samples.

    Returns:
        Every other field of these samples ``(len(indices), ...)``, and ``has_<field>`` of the image fields.

    Raises:
        DataError: If a sample cannot be read, or no crop can be made of its labels.
        UserError: If an image has another shape than those before it.
    """
    rows: list[dict[str, Any]] = []
    images = {name: np.zeros((len(indices), *file.shape), file.dtype) for name, file in job.files.items()}
    for at, index in enumerate(indices):
        sample = _read(job, index)
        try:
            row = crop_sample(sample, job.joints, job.options, job.image_fields)
        except ValueError as error:  # the labels are numbers, but no camera could see such a hand
            raise DataError(f"sample {sample.id}: no crop can be made of its labels ({error}); leave it out") from None
        row["id"] = sample.id
        for name in job.image_fields:
            image = row.pop(name, None)
            row[f"has_{name}"] = image is not None
            if image is None:
                continue
            if name not in images or image.shape != images[name].shape[1:]:
                raise UserError(f"sample {sample.id}: its image {name!r} has another shape than those before it")
            images[name][at] = image
        rows.append(row)
    for name, file in job.files.items():
        with (job.folder / f"{name}.npy").open("r+b") as stream:
            stream.seek(file.start + indices.start * int(np.prod(file.shape)) * file.dtype.itemsize)
            stream.write(images[name].data)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _read(job: PackingJob, index: int) -> Sample:
    """One sample; a reader with ``read`` decodes only the images that are packed."""
    read = getattr(job.dataset, "read", None)
    try:
        return job.dataset[index] if read is None else read(index, job.image_fields)
    except UserError:
        raise
    # what a reader of broken bytes may raise; readers name the file themselves where they can
    except (OSError, ValueError, LookupError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"sample {index}: cannot be read ({' '.join(str(error).split())[:200]})") from None
