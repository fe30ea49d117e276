"""``cvhpe data verify``: what a data set on disk holds, and what of it would spoil a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np

from cvhpe.data.reader import SplitAbsent
from cvhpe.data.verify import anatomy
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.camera import project
from cvhpe.geometry.skeleton import layout
from cvhpe.io.image_integrity import is_complete_image
from cvhpe.io.progress import StageProgressCallback
from cvhpe.plugin.sample import Array, Dataset, DatasetSpec, Sample

Verdict = Literal["ok", "note", "warn", "fatal"]

DECODED = 200
"""Samples of a split whose pictures are decoded; of all others the files' first and last bytes are read."""


LABELS = 100_000
"""Samples of a split whose labels are looked at, at most."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was looked at, what was found, what was expected, and the verdict.

    ``fatal``: would spoil a training. ``warn``: worth a look. ``note``: nobody could expect a value.
    """

    split: str
    check: str
    found: str
    expected: str = ""
    verdict: Verdict = "ok"


def is_fatal(rows: Iterable[Row]) -> bool:
    """Whether any line would spoil a training: then the command ends with exit code 2."""
    return any(r.verdict == "fatal" for r in rows)


def verify(
    spec: DatasetSpec,
    path: Path | None,
    splits: Iterable[str] | None = None,
    *,
    decode: int = DECODED,
    progress: StageProgressCallback | None = None,
) -> list[Row]:
    """Check every split, or those of ``splits``; never raises for what it finds wrong in the data.

    A split that cannot be opened is fatal. One of which nothing is there is not, where no split was asked
    for and another one is there: half of a data set is a whole training or evaluation set.
    """
    asked = tuple(splits) if splits is not None else tuple(s for s in spec.splits if s != "all")
    rows: list[Row] = []
    absent: list[Row] = []
    seen: dict[str, set[int]] = {}
    for split in asked:
        try:
            dataset = spec.open(path, split)
        except SplitAbsent as error:
            absent.append(Row(split, "opens", str(error), "", "warn" if splits is None else "fatal"))
            continue
        except UserError as error:
            rows.append(Row(split, "opens", str(error), "", "fatal"))
            continue
        checked, prints = _verify_split(dataset, spec, split, decode, progress)
        rows += checked
        seen[split] = prints
    if len(absent) == len(asked):
        absent = [replace(r, verdict="fatal") for r in absent]
    return [*absent, *rows, *_shared(seen)]


def _verify_split(
    dataset: Dataset, spec: DatasetSpec, split: str, decode: int, progress: StageProgressCallback | None
) -> tuple[list[Row], set[int]]:
    def row(check: str, found: str, expected: str = "", verdict: Verdict = "ok") -> Row:
        return Row(split, check, found, expected, verdict)

    rows = [_count(dataset, spec, split)]
    rows.append(row("layout, root", f"{dataset.layout}, {dataset.root}", verdict="note"))
    if note := getattr(dataset, "note", ""):
        rows.append(row("note", note, verdict="note"))
    absent = getattr(dataset, "absent", ())
    if absent:
        rows.append(row("label files", f"{len(absent)} absent: {_first(absent)}", "all", "warn"))
    rows += [row(*r) for r in _files(dataset, progress, split)]
    rows_decoded, size, pictured = _decoded(dataset, decode, progress, split)
    rows += [row(*r) for r in rows_decoded]
    read = getattr(dataset, "labels", None)
    samples = pictured if read is None else _read_labels(read, len(dataset), progress, split)
    if len(samples) < len(dataset):
        rows.append(row("labels looked at", f"{len(samples):,} of {len(dataset):,}", verdict="note"))
    rows += [row(*r) for r in _labels(samples, dataset, size)]
    return rows, {_print(s) for s in samples if s.joints3d_mm is not None}


def _read_labels(
    read: Callable[[int], Sample], count: int, progress: StageProgressCallback | None, split: str
) -> list[Sample]:
    """The labels of all samples, or of as many as memory should bear, spread evenly."""
    at = _spread(count, LABELS)
    samples = []
    for n, i in enumerate(at):
        if progress is not None and n % 1000 == 0:
            progress(f"{split}: labels", n, len(at))
        samples.append(read(i))
    return samples


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` indices, spread evenly over them."""
    few = min(most, count)
    at: list[int] = np.unique(np.linspace(0, count - 1, few).round()).astype(int).tolist() if few else []
    return at


Detection = tuple[str, str, str, Verdict]


def _count(dataset: Dataset, spec: DatasetSpec, split: str) -> Row:
    published = spec.published.get(split)
    if published is None:
        return Row(split, "samples", f"{len(dataset):,}", "", "note" if len(dataset) else "fatal")
    verdict: Verdict = "ok" if len(dataset) == published else "warn" if len(dataset) else "fatal"
    return Row(split, "samples", f"{len(dataset):,}", f"{published:,} published", verdict)


def _first(paths: Iterable[Path | str], most: int = 3) -> str:
    paths = list(paths)
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(str(p) for p in paths[:most]) + more


def _files(dataset: Dataset, progress: StageProgressCallback | None, split: str) -> list[Detection]:
    """Every picture file: is it there, and does it end as its format ends?"""
    if not hasattr(dataset, "files"):
        return []
    missing: list[Path] = []
    broken: list[Path] = []
    looked: set[Path] = set()
    for i in range(len(dataset)):
        if progress is not None and i % 500 == 0:
            progress(f"{split}: files", i, len(dataset))
        for path in dataset.files(i).values():
            if path in looked:
                continue
            looked.add(path)
            whole = is_complete_image(path)
            if whole is None:
                missing.append(path)
            elif not whole:
                broken.append(path)
    if not looked:
        return []
    return [
        ("picture files", f"{len(missing)} of {len(looked):,} missing: {_first(missing)}", "none", "fatal")
        if missing
        else ("picture files", f"{len(looked):,} there", "", "ok"),
        *([("picture files", f"{len(broken)} truncated: {_first(broken)}", "none", "fatal") for _ in broken[:1]]),
    ]


def _decoded(
    dataset: Dataset, most: int, progress: StageProgressCallback | None, split: str
) -> tuple[list[Detection], tuple[int, int] | None, list[Sample]]:
    """Decode some samples, spread evenly; also gives the frame's (width, height) and the samples."""
    at = _spread(len(dataset), most)
    good: list[Sample] = []
    faults: list[str] = []
    for n, i in enumerate(at):
        if progress is not None:
            progress(f"{split}: decoding", n, len(at))
        try:
            good.append(dataset[i])
        except DataError as error:
            faults.append(str(error))
    frames = [im.shape[:2] for s in good for im in s.images.values()]
    size = (frames[0][1], frames[0][0]) if frames and len(set(frames)) == 1 else None
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        return [("decoded", f"{len(faults)} of {len(at)} failed: {faults[0]}{more}", "none", "fatal")], size, good
    rows: list[Detection] = [("decoded", f"{len(good)} samples, {_sizes(good)}", "", "ok")]
    with_depth = [s.images["depth"] for s in good if "depth" in s.images]
    if with_depth:
        empty = sum(not (d > 0).any() for d in with_depth)
        rows.append(("depth measured", f"{np.mean([(d > 0).mean() for d in with_depth]):.0%} of the pixels", "", "ok"))
        if empty:
            rows.append(("depth pictures without a measurement", f"{empty} of {len(with_depth)}", "none", "fatal"))
    return rows, size, good


def _sizes(samples: list[Sample]) -> str:
    kinds = sorted({f"{k} {im.shape[1]}x{im.shape[0]}" for s in samples for k, im in s.images.items()})
    return _first(kinds) or "no pictures"


def _labels(samples: list[Sample], dataset: Dataset, size: tuple[int, int] | None) -> list[Detection]:
    if not samples:
        return []
    rows: list[Detection] = []
    ids = [s.id for s in samples]
    (most_used, times), *_ = Counter(ids).most_common(1)
    if times > 1:
        rows.append(("ids", f"{len(ids) - len(set(ids))} used again, e.g. {most_used}", "none", "fatal"))
    left = np.mean([s.side == 0 for s in samples])
    rows.append(("left : right", f"{left:.0%} : {1 - left:.0%}", "", "ok"))
    rows += _points2d(samples, size)
    in_3d = [s for s in samples if s.joints3d_mm is not None]
    if not in_3d:
        return [*rows, ("3D labels", "none", "", "note")]
    xyz = np.stack([np.asarray(s.joints3d_mm, np.float64) for s in in_3d])
    side = np.array([s.side for s in in_3d])
    rows.append(_units(xyz))
    rows += _reprojection(in_3d)
    behind = float((xyz[..., 2] <= 0).mean())
    if behind:
        rows.append(("joints on or behind the camera", f"{behind:.2%}", "0 %", "fatal" if behind > 0.1 else "warn"))
    rows += anatomy.check(xyz, side, layout(dataset.layout), dataset.root)
    rows += _duplicates(in_3d)
    return rows


def _points2d(samples: list[Sample], size: tuple[int, int] | None) -> list[Detection]:
    labelled = [s for s in samples if s.joints2d_px is not None]
    if not labelled:
        return [("2D labels", "none", "", "note")]
    uv = np.stack([np.asarray(s.joints2d_px, np.float64) for s in labelled])
    known = np.isfinite(uv).all(-1)
    rows: list[Detection] = []
    if not known.all():
        unlabelled: Verdict = "warn" if known.mean() < 0.5 else "note"
        rows.append(("2D joints without a label", f"{1 - known.mean():.1%}", "", unlabelled))
    visible = [s.visible for s in labelled if s.visible is not None]
    if visible:
        share = np.stack(visible).mean()
        rows.append(("visible joints", f"{share:.1%}", "", "ok" if share > 0.1 else "warn"))
    if size is not None:
        with np.errstate(invalid="ignore"):
            inside = ((uv >= -0.5) & (uv <= np.array(size) - 0.5)).all(-1)
        outside = float((known & ~inside).sum() / max(known.sum(), 1))
        verdict: Verdict = "ok" if outside < 0.1 else "warn" if outside < 0.5 else "fatal"
        rows.append(("joints outside the picture", f"{outside:.1%}", "under 10 %", verdict))
    return rows


def _units(xyz: Array) -> Detection:
    """Hands are 10 to 22 cm long, so a factor of ten or more in the units shows."""
    with np.errstate(all="ignore"):
        extent = np.nanmedian(np.linalg.norm(np.nanmax(xyz, 1) - np.nanmin(xyz, 1), axis=-1))
    if not np.isfinite(extent) or extent <= 0:
        return ("size of a hand", f"{extent:g} mm", "80 to 320 mm", "fatal")
    if 80 <= extent <= 320:
        return ("size of a hand", f"{extent:.0f} mm", "80 to 320 mm", "ok")
    factor = 10.0 ** round(float(np.log10(extent / 160)))
    if factor == 1:
        return ("size of a hand", f"{extent:.0f} mm", "80 to 320 mm", "warn")
    unit = {1e-3: ", as in metres", 1e-1: ", as in centimetres", 1e3: ", as in micrometres"}.get(factor, "")
    times = f"{max(factor, 1 / factor):,.0f} times too {'small' if factor < 1 else 'large'}"
    return ("size of a hand", f"{extent:.3g} mm: {times}{unit}", "80 to 320 mm", "fatal")


def _reprojection(samples: list[Sample]) -> list[Detection]:
    able = [s for s in samples if s.joints2d_px is not None and s.K is not None]
    if not able:
        return []
    names = ("joints3d_mm", "joints2d_px", "K")
    xyz, uv, K = (np.stack([np.asarray(getattr(s, n), np.float64) for s in able]) for n in names)
    off = np.linalg.norm(project(xyz, K) - uv, axis=-1)
    off = off[np.isfinite(off)]
    if not len(off):
        return [("3D against 2D", "no joint has both", "", "warn")]
    middle = float(np.median(off))
    verdict: Verdict = "ok" if middle < 1 else "warn" if middle < 5 else "fatal"
    found = f"median {middle:.3f}, 99 % below {np.quantile(off, 0.99):.3f}, largest {off.max():.3f} px"
    return [("3D against 2D", found, "median under 1 px", verdict)]


def _print(sample: Sample) -> int:
    """A number that only the same labels of the same hand share, among as many as a data set has."""
    whole = np.asarray(sample.joints3d_mm, np.float32).tobytes() + bytes([sample.side])
    return int.from_bytes(blake2b(whole, digest_size=8).digest(), "little")


def _duplicates(samples: list[Sample]) -> list[Detection]:
    """Equal labels in samples that no group says belong together."""
    first: dict[int, Sample] = {}
    again = [(s, f) for s in samples if (f := first.setdefault(_print(s), s)) is not s]
    twins = [(s, f) for s, f in again if s.group == -1 or s.group != f.group]
    if not twins:
        return [("duplicates", "none", "", "ok")]
    a, b = twins[0]
    return [("duplicates", f"{len(twins)} of {len(samples)}, e.g. {a.id} and {b.id}", "none", "warn")]


def _shared(seen: dict[str, set[int]]) -> list[Row]:
    rows = []
    names = list(seen)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if both := len(seen[a] & seen[b]):
                found = f"{both} hands have the same labels in {a} and in {b}"
                # A data set may call its validation frames its test: then all are shared, and it says so.
                verdict: Verdict = "note" if seen[a] == seen[b] else "warn"
                rows.append(Row(b, f"shared with {a}", found, "none", verdict))
    return rows
