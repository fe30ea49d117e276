"""Checks of a data set: contents, shapes, units and order of its samples; sharing among workers."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from cvhpe.errors import DataError, UserError
from cvhpe.plugin.sample import Dataset, DatasetSpec, Sample
from cvhpe.testing.check import Check, fail_check, make_checks, raise_failures, require
from cvhpe.testing.dataset_under_test import DatasetUnderTest, available_splits
from cvhpe.testing.hands import HAND_TESTS

IMAGE_FORMATS = {"rgb": (np.uint8, 3), "depth": (np.float32, 2), "mask": (np.uint8, 2)}


def splits_open(s: DatasetUnderTest) -> None:
    """every split opens, has samples and names its layout and root"""
    from cvhpe.geometry.skeleton import layout

    for split in s.splits:
        data = s.open(split)
        require(
            len(data) > 0, f"split {split!r} is empty", "raise DataError that names what is missing, or drop the split"
        )
        require(data.root in ("wrist", "palm"), f"root is {data.root!r}", 'use "wrist" or "palm"')
        require(
            s.spec.layout in (None, data.layout),
            f"spec.layout is {s.spec.layout!r}, that of a split {data.layout!r}",
            "use one layout",
        )
        try:
            layout(data.layout)
        except UserError as error:
            fail_check(str(error), "use a layout of cvhpe.geometry.skeleton")


def samples_are_complete(s: DatasetUnderTest) -> None:
    """samples have what `fields` names, in the documented shapes and dtypes, with unique ids"""
    from cvhpe.geometry.skeleton import layout

    for split, samples in s.samples.items():
        joints = len(layout(s.open(split).layout))
        ids = [x.id for x in samples]
        require(
            len(set(ids)) == len(ids),
            f"split {split!r} uses an id twice",
            "build it from the file name and the hand side",
        )
        for x in samples:
            _check_sample(s.spec, x, joints)


def _check_sample(spec: DatasetSpec, x: Sample, joints: int) -> None:
    require(isinstance(x, Sample), f"an item is a {type(x).__name__}", "return cvhpe.Sample")
    where = f"sample {x.id!r}"
    require(isinstance(x.id, str) and x.id, f"{where} has no id", "give it one that names the frame")
    require(x.side in (0, 1), f"{where} has side {x.side!r}", "0 is left, 1 is right")
    shapes: Mapping[str, tuple[int, ...]] = {
        "joints3d_mm": (joints, 3), "joints2d_px": (joints, 2), "visible": (joints,), "K": (3, 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        value = getattr(x, name)
        require(
            value is None or (isinstance(value, np.ndarray) and value.shape == shape),
            f"{where}: {name} has the shape {getattr(value, 'shape', type(value).__name__)}, not {shape}",
            "give every joint of the layout, NaN where it is not labelled",
        )
    require(x.visible is None or x.visible.dtype == bool, f"{where}: visible is not bool", "use visible.astype(bool)")
    for name in sorted({*spec.fields} - {"joints2d", "joints3d"}):
        require(
            name in x.images,
            f"{where} lacks the image {name!r} that fields names",
            "add it, or remove it from fields",
        )
    for name, image in x.images.items():
        require(name in spec.fields, f"{where} has the image {name!r} that fields does not name", "add it to fields")
        if name not in IMAGE_FORMATS:
            grey = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
            require(
                grey or (image.shape[2:] == (3,) and image.dtype == np.uint8),
                f"{where}: {name} is {image.dtype} {image.shape}, which cannot be packed",
                "give uint8 or uint16 (H, W), or uint8 (H, W, 3), and scale it back in augment",
            )
            continue
        dtype, axes = IMAGE_FORMATS[name]
        require(
            image.dtype == dtype and image.ndim == axes,
            f"{where}: {name} is {image.dtype} with {image.ndim} axes",
            f"give {np.dtype(dtype)} with {axes} axes; depth in mm",
        )
    if "joints2d" not in spec.fields and "joints3d" not in spec.fields and spec.crop == "joints":
        require(x.box is not None, f"{where} has neither joints nor a box to crop by", "give box=(x, y, width, height)")


def reading_is_repeatable(s: DatasetUnderTest) -> None:
    """the same index gives the same sample, in any order and from a data set opened again"""
    for split, samples in s.samples.items():
        data = s.open(split)
        for i in reversed(range(len(samples))):
            for other in (data[i], data[i]):
                differ = _difference(samples[i], other)
                require(
                    not differ,
                    f"split {split!r}, index {i}: {differ} differs between two readings",
                    "make a sample depend on its index alone",
                )


def workers_may_share_it(s: DatasetUnderTest) -> None:
    """a data set can be pickled after reading, and worker processes read the same as the main one"""
    from torch.utils.data import DataLoader

    split = s.splits[0]
    samples, data = s.samples[split], s.open(split)
    data[0]  # opens the files that are opened on first use
    try:
        again = pickle.loads(pickle.dumps(data))
    except Exception as error:
        fail_check(
            f"cannot be pickled: {type(error).__name__}: {error}",
            "open files in __getitem__, or drop them in __getstate__",
        )
    require(
        not _difference(samples[0], again[0]),
        "returns another sample after pickling",
        "keep all state that __getitem__ needs",
    )
    loader: DataLoader[Sample] = DataLoader(_Repeated(data, samples, 3), batch_size=None, num_workers=2)  # type: ignore[arg-type]
    for i, sample in enumerate(loader):
        differ = _difference(samples[i % len(samples)], sample)
        fix = "workers share a file handle opened before they start: open it once a process (os.getpid)"
        require(not differ, f"index {i % len(samples)}: a worker returns another {differ}", fix)


class _Repeated:
    """The first samples repeatedly, so that two workers read at the same time."""

    def __init__(self, data: Dataset, samples: list[Sample], times: int) -> None:
        self.data, self.n, self.times = data, len(samples), times

    def __len__(self) -> int:
        return self.n * self.times

    def __getitem__(self, index: int) -> Sample:
        return self.data[index % self.n]


def mistakes_are_named(s: DatasetUnderTest) -> None:
    """a missing folder raises a DataError that names it, an index past the end an IndexError"""
    if s.spec.needs_path:
        nowhere = Path("/no/such/folder")
        try:
            s.spec.open(nowhere, s.splits[0])
        except UserError as error:
            require(
                "/no/such" in str(error),
                f"the error does not name the folder: {error}",
                "put the path into the message",
            )
            require(
                "\n" not in str(error),
                "the error has more than one line",
                "say what, where and how to fix it in one line",
            )
        except Exception as error:
            fail_check(
                f"a missing folder raises {type(error).__name__}",
                f"raise cvhpe.{DataError.__name__} in one line that names it",
            )
        else:
            fail_check(
                "a missing folder opens without an error",
                f"look for the files when opening, and raise cvhpe.{DataError.__name__}",
            )
    data = s.open(s.splits[0])
    try:
        data[len(data)]
    except IndexError:
        return
    except Exception as error:
        fail_check(f"an index past the end raises {type(error).__name__}", "raise IndexError")
    fail_check("an index past the end gives a sample", "raise IndexError")


def _difference(a: Sample, b: Sample) -> str:
    """Name of the first field in which two samples differ; empty if they are equal."""
    for f in fields(Sample):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if f.name == "images":
            if set(x) != set(y):
                return "images"
            for name in x:
                if not np.array_equal(x[name], y[name], equal_nan=x[name].dtype.kind == "f"):
                    return name
        elif isinstance(x, np.ndarray):
            if not isinstance(y, np.ndarray) or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                return f.name
        elif x != y:
            return f.name
    return ""


DATA_TESTS = (
    splits_open,
    samples_are_complete,
    *HAND_TESTS,
    reading_is_repeatable,
    workers_may_share_it,
    mistakes_are_named,
)


def dataset_checks(
    spec: DatasetSpec,
    path: str | Path | None = None,
    *,
    count: int = 12,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Check]:
    """List the checks of a data set, for ``pytest.mark.parametrize``; splits that are not on disk are skipped.

    Args:
        spec: The data set.
        path: Where it lies.
        count: Number of samples of each split to check.
        expected_failures: check -> reason why it is known to fail; such a check fails if it passes.

    Returns:
        The checks. ``DataError`` if the folder is not this data set, or holds no split.
    """
    folder = None if path is None else Path(path)
    subject = DatasetUnderTest(spec, folder, available_splits(spec, folder), count)
    return make_checks(DATA_TESTS, subject, expected_failures)


def check_dataset(
    spec: DatasetSpec,
    path: str | Path | None = None,
    *,
    count: int = 12,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Run every check of a data set; raise :class:`CheckFailed` with all failures and their fixes.

    Args:
        spec: The data set.
        path: Where it lies.
        count: Number of samples of each split to check.
        expected_failures: check -> reason why it is known to fail; such a check fails if it passes.
    """
    raise_failures(spec.name, dataset_checks(spec, path, count=count, expected_failures=expected_failures))
