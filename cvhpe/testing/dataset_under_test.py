"""The data set that the conformance kit checks: its available splits and the first samples of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cvhpe.data.reader import SplitAbsent
from cvhpe.errors import DataError
from cvhpe.plugin.sample import Dataset, DatasetSpec, Sample
from cvhpe.testing.check import skip_check


@dataclass(frozen=True)
class DatasetUnderTest:
    """A data set on disk.

    Attributes:
        spec: The data set.
        path: Where it lies.
        splits: Its splits on disk.
        count: Number of samples of each split to check.
    """

    spec: DatasetSpec
    path: Path | None
    splits: tuple[str, ...]
    count: int

    def open(self, split: str) -> Dataset:
        """Open a split."""
        return self.spec.open(self.path, split)

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """The first samples of each split."""
        first = {}
        for split in self.splits:
            data = self.open(split)
            first[split] = [data[i] for i in range(min(self.count, len(data)))]
        return first

    def iter_samples(self) -> Iterator[tuple[str, Sample]]:
        """Yield ``(split, sample)``."""
        return ((split, sample) for split, samples in self.samples.items() for sample in samples)

    def labelled(self, field: str) -> list[Sample]:
        """List the samples with labels of a field, ``joints2d`` or ``joints3d``; skip the check if there are none."""
        if field not in self.spec.fields:
            skip_check(f"the data set has no {field}")
        attribute = {"joints3d": "joints3d_mm", "joints2d": "joints2d_px"}[field]
        labelled = [s for _, s in self.iter_samples() if getattr(s, attribute) is not None]
        if not labelled:
            skip_check(f"no sample checked has {attribute}")
        return labelled


def available_splits(spec: DatasetSpec, path: Path | None) -> tuple[str, ...]:
    """List the splits of a data set that are on disk.

    Args:
        spec: The data set.
        path: Where it lies.

    Returns:
        The splits, in the order of ``spec.splits``.

    Raises:
        DataError: If the folder is not this data set, or holds no split.
    """
    available, absent = [], []
    for split in spec.splits:
        try:
            spec.open(path, split)
        except SplitAbsent as error:
            absent.append(str(error))
            continue
        except DataError:
            raise
        except Exception:  # a fault of the plugin, which the check splits_open reports
            pass
        available.append(split)
    if not available:
        raise DataError("; ".join(absent) or f"data set {spec.name!r} names no splits")
    return tuple(available)
