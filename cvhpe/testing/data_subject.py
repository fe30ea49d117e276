"""The data set under test: the splits that are on disk, and the first samples of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import SkipTest

from cvhpe.data.reader import SplitAbsent
from cvhpe.errors import DataError
from cvhpe.plugin.sample import Dataset, DatasetSpec, Sample


@dataclass(frozen=True)
class DataSubject:
    """A data set, where it lies, the splits that are there, and how many samples of each to look at."""

    spec: DatasetSpec
    path: Path | None
    splits: tuple[str, ...]
    count: int

    def open(self, split: str) -> Dataset:
        return self.spec.open(self.path, split)

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """The first samples of each split."""
        found = {}
        for split in self.splits:
            data = self.open(split)
            found[split] = [data[i] for i in range(min(self.count, len(data)))]
        return found

    def each(self) -> Iterator[tuple[str, Sample]]:
        return ((split, sample) for split, samples in self.samples.items() for sample in samples)

    def labelled(self, what: str) -> list[Sample]:
        """The samples that carry labels of a kind; SkipTest where the data set has none."""
        if what not in self.spec.fields:
            raise SkipTest(f"the data set has no {what}")
        attribute = {"joints3d": "joints3d_mm", "joints2d": "joints2d_px"}[what]
        found = [s for _, s in self.each() if getattr(s, attribute) is not None]
        if not found:
            raise SkipTest(f"no sample looked at has {attribute}")
        return found


def splits_there(spec: DatasetSpec, path: Path | None) -> tuple[str, ...]:
    """The splits of a data set that are on disk."""
    there, absent = [], []
    for split in spec.splits:
        try:
            spec.open(path, split)
        except SplitAbsent as error:
            absent.append(str(error))
            continue
        except DataError:
            raise
        except Exception:  # the plugin's own fault: the check that opens the split will tell
            pass
        there.append(split)
    if not there:
        raise DataError("; ".join(absent) or f"data set {spec.name!r} names no splits")
    return tuple(there)
