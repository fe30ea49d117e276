"""Checks of a data set: what its samples hold, in which units and order, and whether workers may share it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from unittest import SkipTest

import numpy as np

from cvhpe.data.sample import Dataset, DatasetSpec, Sample
from cvhpe.errors import DataError, UserError
from cvhpe.testing.check import Check, fail, make_checks, raise_failures, require

BONE_MM = (4.0, 150.0)  # every bone of a layout, palm bones included, median over the samples looked at
CURL_MM = 12.0  # fingertips this far out of the palm's plane say on which side the palm is
HAND_MM = (60.0, 260.0)  # root to the farthest fingertip
KNOWN = {"rgb": (np.uint8, 3), "depth": (np.float32, 2), "mask": (np.uint8, 2)}


@dataclass(frozen=True)
class DataSubject:
    """A data set, where it lies, and how many samples of a split to look at."""

    spec: DatasetSpec
    path: Path | None
    count: int

    def open(self, split: str) -> Dataset:
        return self.spec.open(self.path, split)

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """The first samples of each split."""
        found = {}
        for split in self.spec.splits:
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
        require(
            found,
            f"fields names {what}, but no sample has {attribute}",
            f"set {attribute}, or take {what} out of fields",
        )
        return found


def splits_open(s: DataSubject) -> None:
    """every split opens, has samples and says its layout and root"""
    from cvhpe.skeleton import layout

    require(s.spec.splits, "the data set has no splits", "name at least one, the training split first")
    for split in s.spec.splits:
        data = s.open(split)
        require(
            len(data) > 0, f"split {split!r} is empty", "raise DataError naming what is missing, or leave the split out"
        )
        require(data.root in ("wrist", "palm"), f"root is {data.root!r}", 'say "wrist" or "palm"')
        require(
            s.spec.layout in (None, data.layout),
            f"spec.layout is {s.spec.layout!r}, a split says {data.layout!r}",
            "say one",
        )
        try:
            layout(data.layout)
        except UserError as error:
            fail(str(error), "use a layout of cvhpe.skeleton")


def samples_are_whole(s: DataSubject) -> None:
    """samples carry what `fields` promises, in the documented shapes and dtypes, under unique ids"""
    from cvhpe.skeleton import layout

    for split, samples in s.samples.items():
        joints = len(layout(s.open(split).layout))
        ids = [x.id for x in samples]
        require(
            len(set(ids)) == len(ids),
            f"split {split!r} uses an id twice",
            "build it from the file's name, and the hand's side",
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
    for name in set(spec.fields) & set(KNOWN):
        require(
            name in x.images,
            f"{where} lacks the image {name!r} that fields promises",
            "add it, or take it out of fields",
        )
    for name, image in x.images.items():
        require(name in spec.fields, f"{where} has the image {name!r} that fields does not name", "add it to fields")
        dtype, axes = KNOWN.get(name, (image.dtype, image.ndim))
        require(
            image.dtype == dtype and image.ndim == axes,
            f"{where}: {name} is {image.dtype} with {image.ndim} axes",
            f"give {np.dtype(dtype)} with {axes} axes; depth in mm",
        )
    if "joints2d" not in spec.fields and "joints3d" not in spec.fields and spec.crop == "joints":
        require(x.box is not None, f"{where} has neither joints nor a box to crop by", "give box=(x, y, width, height)")


def joints_are_in_mm(s: DataSubject) -> None:
    """3D joints are a hand in mm, in front of the camera"""
    samples = s.labelled("joints3d")
    reach = np.nanmedian([_reach(x, s) for x in samples])
    meant = "metres: multiply by 1000" if reach < 1 else "cm: multiply by 10" if reach < 30 else "scaled otherwise"
    require(
        HAND_MM[0] < reach < HAND_MM[1],
        f"a hand reaches {reach:.3g} from its root",
        f"give mm; this looks as if {meant}",
    )
    depth = np.nanmedian([np.nanmedian(x.joints3d_mm[:, 2]) for x in samples])  # type: ignore[index]
    if any(x.K is not None for x in samples):
        require(depth > 0, f"the median z is {depth:.3g} mm", "z points forward, away from the camera")


def _reach(x: Sample, s: DataSubject) -> float:
    from cvhpe.skeleton import layout

    assert x.joints3d_mm is not None
    root = layout(s.open(s.spec.splits[0]).layout).root
    return float(np.nanmax(np.linalg.norm(x.joints3d_mm - x.joints3d_mm[root], axis=1)))


def joints_are_in_the_layouts_order(s: DataSubject) -> None:
    """the joints stand in the layout's order: bones have the length of bones, fingers grow away from the root"""
    from cvhpe.skeleton import layout

    samples = s.labelled("joints3d")
    one = layout(s.open(s.spec.splits[0]).layout)
    xyz = np.stack([np.asarray(x.joints3d_mm) for x in samples])
    length = np.nanmedian([np.linalg.norm(xyz[:, a] - xyz[:, b], axis=1) for a, b in one.bones], axis=1)
    for (a, b), mm in zip(one.bones, length, strict=True):
        require(
            not mm < BONE_MM[0] and not mm > BONE_MM[1],
            f"the bone {one.joints[a]} - {one.joints[b]} is {mm:.1f} mm long",
            f"check the order of the joints against the layout {one.name!r}, and the units",
        )
    # In a wrong order the sum of all bones grows, however the hand is bent: the true tree is nearly a shortest one.
    order = np.random.default_rng(0)
    shuffled = [_tree(xyz[:, order.permutation(len(one))], one.bones) for _ in range(20)]
    own = _tree(xyz, one.bones)
    require(
        own < 0.8 * np.median(shuffled),
        "the bones are as long as in a random order of joints",
        f"give the order of {one.name!r}",
    )
    nearest = min(
        one.fingers, key=lambda f: np.nanmedian(np.linalg.norm(xyz[:, one.fingers[f][0]] - xyz[:, one.root], axis=1))
    )
    whole = len(one) == 21 and s.spec.root == "wrist"
    require(
        not whole or nearest == "thumb",
        f"the {nearest} starts nearest to the wrist",
        f"the thumb should: give the order of {one.name!r}",
    )
    backwards = [
        f for f, at in one.fingers.items() if len(at) > 2 and _is_backwards(xyz[:, list(at)], xyz[:, one.root])
    ]
    require(
        not backwards, f"the finger {', '.join(backwards)} runs from tip to base", f"give the order of {one.name!r}"
    )


def hand_sides_are_right(s: DataSubject) -> None:
    """side 0 is a left hand and 1 a right one: fingers curl towards the palm that the knuckles' order implies"""
    from cvhpe.skeleton import layout

    samples = s.labelled("joints3d")
    one = layout(s.open(s.spec.splits[0]).layout)
    if not {"index_mcp", "little_mcp", "index_tip", "little_tip"} <= set(one.joints):
        raise SkipTest(f"layout {one.name!r} has no knuckles to tell by")
    right = []
    for x in samples:
        xyz = np.asarray(x.joints3d_mm)
        index, little = (xyz[one.index(f"{f}_mcp")] - xyz[one.root] for f in ("index", "little"))
        palm = np.cross(index, little)  # of a right hand it points out of the palm
        fingers = [
            xyz[one.index(f"{f}_tip")] - xyz[one.index(f"{f}_mcp")] for f in ("index", "middle", "ring", "little")
        ]
        curl = np.mean(fingers, 0) @ palm / np.linalg.norm(palm)
        if abs(curl) > CURL_MM:
            right.append((curl > 0) == bool(x.side))
    if len(right) < 3:
        raise SkipTest("too few bent fingers to tell a left hand from a right one")
    mend = "0 is left, 1 is right; x points right, y down and z forward: a mirrored axis makes the other hand"
    require(np.mean(right) > 0.5, f"{len(right) - sum(right)} of {len(right)} hands bend their fingers backwards", mend)


def _tree(xyz: np.ndarray, bones: tuple[tuple[int, int], ...]) -> float:
    return float(np.nanmedian(sum(np.linalg.norm(xyz[:, a] - xyz[:, b], axis=1) for a, b in bones)))


def _is_backwards(finger: np.ndarray, root: np.ndarray) -> bool:
    """The base of a finger is nearer to the root than its tip, except in a tight fist: the median decides."""
    base, tip = (np.linalg.norm(finger[:, i] - root, axis=1) for i in (0, -1))
    return bool(np.nanmedian(base - tip) > 0)


def joints_project_onto_the_picture(s: DataSubject) -> None:
    """K @ xyz / z gives the 2D joints, to a few pixels"""
    samples = [x for x in s.labelled("joints3d") if x.K is not None and x.joints2d_px is not None]
    if not samples:
        raise SkipTest("no sample has 3D joints, 2D joints and K")
    errors = []
    for x in samples:
        xyz, uv, camera = np.asarray(x.joints3d_mm), np.asarray(x.joints2d_px), np.asarray(x.K)
        front = xyz[:, 2] > 0
        p = xyz[front] @ camera.T
        errors.append(np.linalg.norm(p[:, :2] / p[:, 2:] - uv[front], axis=1))
    median = float(np.nanmedian(np.concatenate(errors)))
    mend = "pixels count from the centre of the top-left pixel (0, 0), x right, y down; K belongs to the frame as given"
    require(median < 3.0, f"projected 3D joints lie {median:.1f} px (median) beside the 2D joints", mend)


def reading_is_repeatable(s: DataSubject) -> None:
    """the same index gives the same sample, in any order and from a data set opened anew"""
    for split, samples in s.samples.items():
        data = s.open(split)
        for i in reversed(range(len(samples))):
            for other in (data[i], data[i]):
                differ = _difference(samples[i], other)
                require(
                    not differ,
                    f"split {split!r}, index {i}: {differ} differs between two readings",
                    "let a sample depend on its index alone",
                )


def workers_may_share_it(s: DataSubject) -> None:
    """a data set can be pickled after reading, and worker processes read the same as the main one"""
    from torch.utils.data import DataLoader

    split = s.spec.splits[0]
    samples, data = s.samples[split], s.open(split)
    data[0]  # files that are opened on the first reading are open now
    try:
        again = pickle.loads(pickle.dumps(data))
    except Exception as error:
        fail(
            f"cannot be pickled: {type(error).__name__}: {error}",
            "open files in __getitem__, or drop them in __getstate__",
        )
    require(not _difference(samples[0], again[0]), "reads something else after pickling", "keep all that reading needs")
    loader: DataLoader[Sample] = DataLoader(_Repeated(data, samples, 3), batch_size=None, num_workers=2)  # type: ignore[arg-type]
    for i, sample in enumerate(loader):
        differ = _difference(samples[i % len(samples)], sample)
        mend = "a file handle opened before the workers start is shared by them: open it once a process (os.getpid)"
        require(not differ, f"index {i % len(samples)}: a worker reads another {differ}", mend)


class _Repeated:
    """The first samples over and over, so that two workers read at the same time."""

    def __init__(self, data: Dataset, samples: list[Sample], times: int) -> None:
        self.data, self.n, self.times = data, len(samples), times

    def __len__(self) -> int:
        return self.n * self.times

    def __getitem__(self, index: int) -> Sample:
        return self.data[index % self.n]


def mistakes_are_named(s: DataSubject) -> None:
    """a folder that is not there is a DataError that names it, an index past the end an IndexError"""
    if s.spec.needs_path:
        nowhere = Path("/no/such/folder")
        try:
            s.spec.open(nowhere, s.spec.splits[0])
        except UserError as error:
            require(
                "/no/such" in str(error),
                f"the error does not name the folder: {error}",
                "put the path into the message",
            )
            require(
                "\n" not in str(error),
                "the error has more than one line",
                "say what, where and how to mend in one line",
            )
        except Exception as error:
            fail(
                f"a missing folder raises {type(error).__name__}",
                f"raise cvhpe.{DataError.__name__} in one line that names it",
            )
        else:
            fail(
                "a missing folder opens without a complaint",
                f"look for the files when opening, and raise cvhpe.{DataError.__name__}",
            )
    data = s.open(s.spec.splits[0])
    try:
        data[len(data)]
    except IndexError:
        return
    except Exception as error:
        fail(f"an index past the end raises {type(error).__name__}", "raise IndexError")
    fail("an index past the end gives a sample", "raise IndexError")


def _difference(a: Sample, b: Sample) -> str:
    """Name of the first field in which two samples differ; empty where they do not."""
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
    samples_are_whole,
    joints_are_in_mm,
    joints_are_in_the_layouts_order,
    hand_sides_are_right,
    joints_project_onto_the_picture,
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
    """The checks of a data set on the first ``count`` samples of each split, for ``pytest.mark.parametrize``."""
    return make_checks(DATA_TESTS, DataSubject(spec, None if path is None else Path(path), count), expected_failures)


def check_dataset(
    spec: DatasetSpec,
    path: str | Path | None = None,
    *,
    count: int = 12,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Run every check of a data set; AssertionError that lists all failures, each with how to mend it."""
    raise_failures(spec.name, dataset_checks(spec, path, count=count, expected_failures=expected_failures))
