"""The base class of the built-in readers, and what they share when they are opened."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cvhpe.data.files import existing_folder
from cvhpe.data.source import parse_options, split_query
from cvhpe.errors import DataError, nearest
from cvhpe.plugin.sample import Dataset, DatasetSpec, Sample

Array = np.ndarray


class SplitAbsent(DataError):
    """A split is missing; another split of the same copy may be complete."""


class Reader(ABC):
    """One split of a data set on disk. Labels are read apart from images, which must be decoded.

    Attributes:
        layout: see :class:`cvhpe.plugin.sample.Dataset`.
        root: see there.
        absent: label files of the complete data set that this copy lacks.
        note: one line for the user about assumptions or how the split was made; usually empty.
    """

    layout: str
    root: str
    absent: tuple[Path, ...] = ()
    note: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def labels(self, index: int) -> Sample:
        """The sample without images; ``0 <= index < len(self)``."""

    def files(self, index: int) -> Mapping[str, Path]:
        """The image files of a sample: image name -> file. None by default."""
        return {}

    def _decode(self, index: int, name: str, path: Path) -> Array:
        """Decode the image ``name`` of a sample from its file."""
        raise NotImplementedError

    def read(self, index: int, names: Collection[str]) -> Sample:
        """The sample with some of its images; the others are not decoded.

        Args:
            index: ``0 <= index < len(self)``.
            names: of images.

        Returns:
            The sample.
        """
        files = self.files(index) if names else {}
        images = {name: self._decode(index, name, path) for name, path in files.items() if name in names}
        return replace(self.labels(index), images=images)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        return self.read(index, self.files(index))


def open_folder(
    path: Path | None, name: str, split: str, splits: Sequence[str], **defaults: str
) -> tuple[Path, dict[str, str]]:
    """Check what a data set in a folder is opened with.

    Args:
        path: ``FOLDER?key=value``, as the user gave it.
        name: the data set's name, for messages.
        split: the split to open.
        splits: those that the data set has.
        **defaults: its options.

    Returns:
        The folder and all options.

    Raises:
        DataError: If there is no such folder, option or split.
    """
    root, options = parse_options(path, name, defaults)
    check_split(name, split, splits)
    return existing_folder(root, name), options


def check_split(name: str, split: str, splits: Sequence[str]) -> None:
    """Refuse a split that a data set does not have.

    Args:
        name: the data set's name.
        split: the split that is asked for.
        splits: those that it has.

    Raises:
        DataError: If ``split`` is none of them.

    Example:
        >>> check_split("stb", "tset", ("train", "test"))
        Traceback (most recent call last):
        cvhpe.errors.DataError: data set 'stb' has no split 'tset'; did you mean 'test'?
    """
    if split not in splits:
        raise DataError(f"data set {name!r} has no split {split!r}; {nearest(split, splits)}")


def split_note(dataset: Dataset, spec: DatasetSpec, split: str, source: Path | None) -> str:
    """One line for the user about a split: the reader's note, and what an incomplete copy lacks; usually empty.

    Scores on part of a test set are not scores on the test set, so the note is kept with whatever is made of a split.

    Args:
        dataset: the opened split.
        spec: of the data set.
        split: the split's name.
        source: the data set's path, options included.

    Returns:
        The line.
    """
    root, query = (Path(), "") if source is None else split_query(source)
    missing = []
    # Options such as ?subject=3 ask for another number of samples than the published one.
    published = 0 if query else spec.published.get(split, 0)
    if len(dataset) < published:
        missing.append(f"{len(dataset):,} of the {published:,} published samples")
    absent = dataset.absent if isinstance(dataset, Reader) else ()
    if absent:
        more = f" and {len(absent) - 1} more of its label files" if len(absent) > 1 else ""
        missing.append(f"lacks {absent[0] if source is None else os.path.relpath(absent[0], root)}{more}")
    notes = [str(getattr(dataset, "note", ""))]
    if missing:
        notes.append(f"{spec.name} {split} is incomplete: {'; '.join(missing)}")
    return "; ".join(note for note in notes if note)
