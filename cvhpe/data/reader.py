"""What the built-in readers share: labels are read apart from pictures, and every file can be named."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cvhpe.errors import DataError, nearest
from cvhpe.plugin.sample import Dataset, DatasetSpec, Sample

Array = np.ndarray


class SplitAbsent(DataError):
    """Nothing of a split is there: another split of the same copy may well be whole."""


class Reader(ABC):
    """One split of a data set on disk: ``labels`` costs no decoding, ``images`` does.

    layout, root: as in :class:`cvhpe.plugin.sample.Dataset`.
    absent: label files of the complete data set that this copy lacks.
    note: one line for people about what was assumed or how the split came about; usually empty.
    """

    layout: str
    root: str
    absent: tuple[Path, ...] = ()
    note: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def labels(self, index: int) -> Sample:
        """The sample without its pictures."""

    @abstractmethod
    def files(self, index: int) -> Mapping[str, Path]:
        """The picture files of a sample: image name -> file."""

    @abstractmethod
    def images(self, index: int) -> dict[str, Array]:
        """The pictures of a sample, decoded; DataError names a file that is missing or broken."""

    def __getitem__(self, index: int) -> Sample:
        index = self._at(index)
        return replace(self.labels(index), images=self.images(index))

    def read(self, index: int, names: Collection[str]) -> Sample:
        """The sample with some of its pictures; a reader that can leaves the others undecoded."""
        images = self.images(self._at(index)) if names else {}
        return replace(self.labels(index), images={name: image for name, image in images.items() if name in names})

    def _at(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return index % len(self)


def split_note(dataset: Dataset, spec: DatasetSpec, split: str, source: Path | None) -> str:
    """One line for people about a split: the reader's own note, and what an incomplete copy lacks; usually empty.

    Scores on part of a test set are no scores on the test set, so this travels with whatever is made of a split.
    """
    said = [str(getattr(dataset, "note", ""))]
    absent = tuple(getattr(dataset, "absent", ()))
    where, options, _ = str(source or "").partition("?")
    # Options such as ?subject=3 ask for another number of samples than the published one.
    published = 0 if options else spec.published.get(split, 0)
    partial = []
    if len(dataset) < published:
        partial.append(f"{len(dataset):,} of the {published:,} published samples")
    if absent:
        more = f" and {len(absent) - 1} more of its label files" if len(absent) > 1 else ""
        partial.append(f"lacks {os.path.relpath(absent[0], where) if where else absent[0]}{more}")
    if partial:
        said.append(f"{spec.name} {split} is incomplete: {'; '.join(partial)}")
    return "; ".join(part for part in said if part)


def check_split(name: str, split: str, splits: tuple[str, ...]) -> None:
    """Refuse a split that a data set does not have.

    >>> check_split("stb", "tset", ("train", "test"))
    Traceback (most recent call last):
    cvhpe.errors.DataError: data set 'stb' has no split 'tset'; did you mean 'test'?
    """
    if split not in splits:
        raise DataError(f"data set {name!r} has no split {split!r}; {nearest(split, splits)}")
