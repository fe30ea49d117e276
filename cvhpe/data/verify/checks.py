"""``cvhpe data verify``: check what a data set on disk holds, and what of it would spoil a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from cvhpe.data.files import first_few
from cvhpe.data.reader import Reader, SplitAbsent
from cvhpe.data.verify.anatomy import check_anatomy
from cvhpe.data.verify.finding import Finding, Verdict
from cvhpe.errors import DataError, UserError
from cvhpe.geometry.camera import project
from cvhpe.geometry.skeleton import layout
from cvhpe.io.image_integrity import is_complete_image
from cvhpe.io.progress import StageProgressCallback
from cvhpe.plugin.sample import Array, Dataset, DatasetSpec, Sample

DECODED_SAMPLES = 200
"""Samples of a split whose images are decoded; of all others the first and last bytes of the files are read."""

MAX_LABELS = 100_000
"""Samples of a split whose labels are checked, at most."""

_UNITS = {1e-3: ", as in metres", 1e-1: ", as in centimetres", 1e3: ", as in micrometres"}


@dataclass(frozen=True)
class Row:
    """One line of the table: a :class:`cvhpe.data.verify.finding.Finding` of a split."""

    split: str
    check: str
    found: str
    expected: str = ""
    verdict: Verdict = "ok"


def is_fatal(rows: Iterable[Row]) -> bool:
    """Whether any row would spoil a training; the command then ends with exit code 2."""
    return any(r.verdict == "fatal" for r in rows)


def verify(
    spec: DatasetSpec,
    path: Path | None,
    splits: Iterable[str] | None = None,
    *,
    decode: int = DECODED_SAMPLES,
    progress: StageProgressCallback | None = None,
) -> list[Row]:
    """Check the splits of a data set. Faults of the data are rows, not exceptions.

    A split that cannot be opened is fatal. A missing split is not if none was asked for and another one is there: half
    of a data set is a complete training or evaluation set.

    Args:
        spec: the data set.
        path: where it lies.
        splits: to check; by default all.
        decode: how many samples of a split to decode.
        progress: called with what is being done, and how many samples of how many are.

    Returns:
        The rows of the table.
    """
    names = tuple(splits) if splits is not None else tuple(s for s in spec.splits if s != "all")
    rows: list[Row] = []
    absent: list[Row] = []
    digests: dict[str, set[int]] = {}
    for split in names:
        try:
            dataset = spec.open(path, split)
        except SplitAbsent as error:
            absent.append(Row(split, "opens", str(error), "", "warn" if splits is None else "fatal"))
            continue
        except UserError as error:
            rows.append(Row(split, "opens", str(error), "", "fatal"))
            continue
        findings, digests[split] = _verify_split(dataset, spec, split, decode, progress)
        rows += [Row(split, *finding) for finding in findings]
    if len(absent) == len(names):
        absent = [replace(row, verdict="fatal") for row in absent]
    return [*absent, *rows, *_shared_hands(digests)]


def _verify_split(
    dataset: Dataset, spec: DatasetSpec, split: str, decode: int, progress: StageProgressCallback | None
) -> tuple[list[Finding], set[int]]:
    """The findings, and digests of the labels of all hands."""

    def report(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"{split}: {stage}", done, total)

    findings = [_check_count(dataset, spec, split)]
    findings.append(Finding("layout, root", f"{dataset.layout}, {dataset.root}", verdict="note"))
    if note := getattr(dataset, "note", ""):
        findings.append(Finding("note", note, verdict="note"))
    absent = dataset.absent if isinstance(dataset, Reader) else ()
    if absent:
        findings.append(Finding("label files", f"{len(absent)} absent: {first_few(absent)}", "all", "warn"))
    findings += _check_files(dataset, report)
    decoding, frame_size, samples = _check_decoding(dataset, decode, report)
    findings += decoding
    if isinstance(dataset, Reader):
        samples = _read_labels(dataset.labels, len(dataset), report)
    if len(samples) < len(dataset):
        findings.append(Finding("labels checked", f"{len(samples):,} of {len(dataset):,}", verdict="note"))
    findings += _check_labels(samples, dataset, frame_size)
    return findings, {_digest(s) for s in samples if s.joints3d_mm is not None}


def _read_labels(read: Callable[[int], Sample], count: int, report: StageProgressCallback) -> list[Sample]:
    """The labels of all samples, or of :data:`MAX_LABELS` spread evenly."""
    indices = _spread(count, MAX_LABELS)
    samples = []
    for n, index in enumerate(indices):
        if n % 1000 == 0:
            report("labels", n, len(indices))
        samples.append(read(index))
    return samples


def _spread(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``count`` indices, spread evenly."""
    num = min(limit, count)
    indices: list[int] = np.unique(np.linspace(0, count - 1, num).round()).astype(int).tolist() if num else []
    return indices


def _check_count(dataset: Dataset, spec: DatasetSpec, split: str) -> Finding:
    published = spec.published.get(split)
    if published is None:
        return Finding("samples", f"{len(dataset):,}", "", "note" if len(dataset) else "fatal")
    verdict: Verdict = "ok" if len(dataset) == published else "warn" if len(dataset) else "fatal"
    return Finding("samples", f"{len(dataset):,}", f"{published:,} published", verdict)


def _check_files(dataset: Dataset, report: StageProgressCallback) -> list[Finding]:
    """Every image file: does it exist, and does it have its format's end? Readers of plugins do not name theirs."""
    if not isinstance(dataset, Reader):
        return []
    missing: list[Path] = []
    truncated: list[Path] = []
    checked: set[Path] = set()
    for i in range(len(dataset)):
        if i % 500 == 0:
            report("files", i, len(dataset))
        for path in dataset.files(i).values():
            if path in checked:
                continue
            checked.add(path)
            is_complete = is_complete_image(path)
            if is_complete is None:
                missing.append(path)
            elif not is_complete:
                truncated.append(path)
    if not checked:
        return []
    findings = [Finding("image files", f"{len(checked):,} there")]
    if missing:
        found = f"{len(missing)} of {len(checked):,} missing: {first_few(missing)}"
        findings = [Finding("image files", found, "none", "fatal")]
    if truncated:
        findings.append(Finding("image files", f"{len(truncated)} truncated: {first_few(truncated)}", "none", "fatal"))
    return findings


def _check_decoding(
    dataset: Dataset, limit: int, report: StageProgressCallback
) -> tuple[list[Finding], tuple[int, int] | None, list[Sample]]:
    """Decode some samples, spread evenly; also gives the frame's (width, height) and the samples."""
    indices = _spread(len(dataset), limit)
    samples: list[Sample] = []
    errors: list[str] = []
    for n, index in enumerate(indices):
        report("decoding", n, len(indices))
        try:
            samples.append(dataset[index])
        except DataError as error:
            errors.append(str(error))
    images = [image for s in samples for image in s.images.values()]
    shapes = {image.shape[:2] for image in images}
    frame_size = images[0].shape[1::-1] if len(shapes) == 1 else None
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        failed = Finding("decoded", f"{len(errors)} of {len(indices)} failed: {errors[0]}{more}", "none", "fatal")
        return [failed], frame_size, samples
    sizes = sorted({f"{name} {im.shape[1]}x{im.shape[0]}" for s in samples for name, im in s.images.items()})
    findings = [Finding("decoded", f"{len(samples)} samples, {first_few(sizes) or 'no images'}")]
    depths = [s.images["depth"] for s in samples if "depth" in s.images]
    if depths:
        num_empty = sum(not (depth > 0).any() for depth in depths)
        findings.append(Finding("depth measured", f"{np.mean([(d > 0).mean() for d in depths]):.0%} of the pixels"))
        if num_empty:
            empty = f"{num_empty} of {len(depths)}"
            findings.append(Finding("depth images without a measurement", empty, "none", "fatal"))
    return findings, frame_size, samples


def _check_labels(samples: list[Sample], dataset: Dataset, frame_size: tuple[int, int] | None) -> list[Finding]:
    if not samples:
        return []
    findings: list[Finding] = []
    ids = [s.id for s in samples]
    (repeated, times), *_ = Counter(ids).most_common(1)
    if times > 1:
        findings.append(Finding("ids", f"{len(ids) - len(set(ids))} used again, e.g. {repeated}", "none", "fatal"))
    left = np.mean([s.side == 0 for s in samples])
    findings.append(Finding("left : right", f"{left:.0%} : {1 - left:.0%}"))
    findings += _check_2d(samples, frame_size)
    in_3d = [s for s in samples if s.joints3d_mm is not None]
    if not in_3d:
        return [*findings, Finding("3D labels", "none", "", "note")]
    xyz = np.stack([np.asarray(s.joints3d_mm, np.float64) for s in in_3d])
    side = np.array([s.side for s in in_3d])
    findings.append(_check_units(xyz))
    findings += _check_projection(in_3d)
    behind = float((xyz[..., 2] <= 0).mean())
    if behind:
        findings.append(
            Finding("joints on or behind the camera", f"{behind:.2%}", "0 %", "fatal" if behind > 0.1 else "warn")
        )
    findings += check_anatomy(xyz, side, layout(dataset.layout), dataset.root)
    findings += _check_duplicates(in_3d)
    return findings


def _check_2d(samples: list[Sample], frame_size: tuple[int, int] | None) -> list[Finding]:
    labelled = [s for s in samples if s.joints2d_px is not None]
    if not labelled:
        return [Finding("2D labels", "none", "", "note")]
    uv = np.stack([np.asarray(s.joints2d_px, np.float64) for s in labelled])
    known = np.isfinite(uv).all(-1)
    findings: list[Finding] = []
    if not known.all():
        unlabelled: Verdict = "warn" if known.mean() < 0.5 else "note"
        findings.append(Finding("2D joints without a label", f"{1 - known.mean():.1%}", "", unlabelled))
    visible = [s.visible for s in labelled if s.visible is not None]
    if visible:
        share = np.stack(visible).mean()
        findings.append(Finding("visible joints", f"{share:.1%}", "", "ok" if share > 0.1 else "warn"))
    if frame_size is not None:
        with np.errstate(invalid="ignore"):
            inside = ((uv >= -0.5) & (uv <= np.array(frame_size) - 0.5)).all(-1)
        outside = float((known & ~inside).sum() / max(known.sum(), 1))
        verdict: Verdict = "ok" if outside < 0.1 else "warn" if outside < 0.5 else "fatal"
        findings.append(Finding("joints outside the image", f"{outside:.1%}", "under 10 %", verdict))
    return findings


def _check_units(xyz: Array) -> Finding:
    """Hands are 10 to 22 cm long, so a factor of ten or more in the units shows."""
    with np.errstate(all="ignore"):
        extent = np.nanmedian(np.linalg.norm(np.nanmax(xyz, 1) - np.nanmin(xyz, 1), axis=-1))
    if not np.isfinite(extent) or extent <= 0:
        return Finding("size of a hand", f"{extent:g} mm", "80 to 320 mm", "fatal")
    if 80 <= extent <= 320:
        return Finding("size of a hand", f"{extent:.0f} mm", "80 to 320 mm", "ok")
    factor = 10.0 ** round(float(np.log10(extent / 160)))
    if factor == 1:
        return Finding("size of a hand", f"{extent:.0f} mm", "80 to 320 mm", "warn")
    unit = _UNITS.get(factor, "")
    times = f"{max(factor, 1 / factor):,.0f} times too {'small' if factor < 1 else 'large'}"
    return Finding("size of a hand", f"{extent:.3g} mm: {times}{unit}", "80 to 320 mm", "fatal")


def _check_projection(samples: list[Sample]) -> list[Finding]:
    with_camera = [s for s in samples if s.joints2d_px is not None and s.K is not None]
    if not with_camera:
        return []
    names = ("joints3d_mm", "joints2d_px", "K")
    xyz, uv, K = (np.stack([np.asarray(getattr(s, n), np.float64) for s in with_camera]) for n in names)
    distances = np.linalg.norm(project(xyz, K) - uv, axis=-1)
    distances = distances[np.isfinite(distances)]
    if not len(distances):
        return [Finding("reprojection error", "no joint has both", "", "warn")]
    median = float(np.median(distances))
    verdict: Verdict = "ok" if median < 1 else "warn" if median < 5 else "fatal"
    found = f"median {median:.3f}, 99 % below {np.quantile(distances, 0.99):.3f}, largest {distances.max():.3f} px"
    return [Finding("reprojection error", found, "median under 1 px", verdict)]


def _digest(sample: Sample) -> int:
    """A 64-bit digest of the 3D labels and side of a hand."""
    content = np.asarray(sample.joints3d_mm, np.float32).tobytes() + bytes([sample.side])
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _check_duplicates(samples: list[Sample]) -> list[Finding]:
    """Equal labels in samples of different groups."""
    first: dict[int, Sample] = {}
    repeats = [(s, f) for s in samples if (f := first.setdefault(_digest(s), s)) is not s]
    duplicates = [(s, f) for s, f in repeats if s.group == -1 or s.group != f.group]
    if not duplicates:
        return [Finding("duplicates", "none")]
    a, b = duplicates[0]
    return [Finding("duplicates", f"{len(duplicates)} of {len(samples)}, e.g. {a.id} and {b.id}", "none", "warn")]


def _shared_hands(digests: dict[str, set[int]]) -> list[Row]:
    """Hands with the same labels in two splits."""
    rows = []
    names = list(digests)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if both := len(digests[a] & digests[b]):
                found = f"{both} hands have the same labels in {a} and in {b}"
                # A data set may use its validation frames as its test split: then all are shared, and its note says so.
                verdict: Verdict = "note" if digests[a] == digests[b] else "warn"
                rows.append(Row(b, f"shared with {a}", found, "none", verdict))
    return rows
