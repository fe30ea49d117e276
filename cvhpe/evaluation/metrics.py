"""Metrics of 3D joints: the paper's (EPE, PCK, AUC), PA-MPJPE, and the curves of depth benchmarks.

Predictions and targets are ``[N, J, 3]`` mm in one frame of reference, root-relative for the paper's protocols. All is
computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray

THRESHOLDS_MM: Array = np.linspace(0.0, 50.0, 20)
"""Thresholds of PCK; AUC 20-50 uses the last twelve, from 21.05 mm."""
_LAST = 12
WITHIN_MM: Array = np.arange(0.0, 81.0, 5.0)
"""Thresholds of the share of frames within an error."""


@dataclass(frozen=True)
class Summary:
    """The result of :func:`summary`; errors in mm.

    Attributes:
        frames: Number of frames.
        epe_mean: Mean end-point error, averaged over joints.
        epe_median: Median end-point error, averaged over joints.
        pa_mpjpe: Mean error after Procrustes alignment.
        auc_0_50: Area under the PCK curve from 0 to 50 mm.
        auc_20_50: From 20 to 50 mm.
        thresholds: ``(20,)``.
        pck: ``(20,)``, at ``thresholds``.
        per_joint_mean: ``(J,)``, NaN for a joint that is never visible.
        per_joint_median: ``(J,)``, likewise.
        within: ``(17,)``.
        within_max: ``(17,)``, share of frames whose largest error is at most each of ``within``.
        within_mean: ``(17,)``, share of frames whose mean error is.
    """

    frames: int
    epe_mean: float
    epe_median: float
    pa_mpjpe: float
    auc_0_50: float
    auc_20_50: float
    thresholds: Array
    pck: Array
    per_joint_mean: Array
    per_joint_median: Array
    within: Array
    within_max: Array
    within_mean: Array

    def as_dict(self, joints: Sequence[str]) -> dict[str, Any]:
        """Plain numbers and lists, as ``evaluate --json`` prints them.

        Args:
            joints: Names of the ``J`` joints.

        Returns:
            The record; a joint that is never visible has None for its errors.

        Raises:
            ValueError: ``joints`` has another length.
        """
        if len(joints) != len(self.per_joint_mean):
            raise ValueError(f"{len(joints)} joint names for {len(self.per_joint_mean)} joints")
        errors = zip(joints, self.per_joint_mean, self.per_joint_median, strict=True)
        return {
            "frames": self.frames,
            "epe_mean_mm": self.epe_mean,
            "epe_median_mm": self.epe_median,
            "pa_mpjpe_mm": self.pa_mpjpe,
            "auc_0_50": self.auc_0_50,
            "auc_20_50": self.auc_20_50,
            "pck": {"thresholds_mm": self.thresholds.tolist(), "values": self.pck.tolist()},
            "frames_within_max_error": {"thresholds_mm": self.within.tolist(), "values": self.within_max.tolist()},
            "frames_within_mean_error": {"thresholds_mm": self.within.tolist(), "values": self.within_mean.tolist()},
            "per_joint": {j: {"epe_mean_mm": _plain(mean), "epe_median_mm": _plain(med)} for j, mean, med in errors},
        }


def _plain(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def errors(pred: Array, target: Array) -> Array:
    """End-point errors: Euclidean distances of joints.

    Args:
        pred: ``[N, J, 3]`` mm.
        target: ``[N, J, 3]`` mm.

    Returns:
        ``[N, J]`` mm.

    Raises:
        ValueError: The shapes differ or are not ``[N, J, 3]``.

    Example:
        >>> errors(np.array([[[3.0, 4.0, 0.0]]]), np.zeros((1, 1, 3)))
        array([[5.]])
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if pred.shape != target.shape or pred.ndim != 3 or pred.shape[-1] != 3:
        raise ValueError(f"pred {pred.shape} and target {target.shape} must both be (N, J, 3)")
    return np.linalg.norm(pred - target, axis=-1)


def epe_per_joint(pred: Array, target: Array, visible: Array | None = None) -> tuple[Array, Array]:
    """Mean and median end-point error of each joint, over the frames in which it is visible.

    Args:
        pred: ``[N, J, 3]`` mm.
        target: ``[N, J, 3]`` mm.
        visible: ``[N, J]`` bool; all if None.

    Returns:
        Two ``(J,)`` mm, NaN for a joint that is never visible.

    Example:
        >>> mean, median = epe_per_joint(np.array([[[1.0, 0, 0]], [[2, 0, 0]], [[6, 0, 0]]]), np.zeros((3, 1, 3)))
        >>> float(mean[0]), float(median[0])
        (3.0, 2.0)
    """
    e, v = _visible_errors(pred, target, visible)
    columns = [e[v[:, j], j] for j in range(e.shape[1])]
    mean = np.array([c.mean() if len(c) else np.nan for c in columns])
    median = np.array([np.median(c) if len(c) else np.nan for c in columns])
    return mean, median


def pck(pred: Array, target: Array, visible: Array | None = None, thresholds: Array = THRESHOLDS_MM) -> Array:
    """Percentage of correct keypoints: the share of errors within each threshold.

    It is computed for each joint over the frames in which it is visible, then averaged over joints.

    Args:
        pred: ``[N, J, 3]`` mm.
        target: ``[N, J, 3]`` mm.
        visible: ``[N, J]`` bool; all if None.
        thresholds: ``(T,)`` mm.

    Returns:
        ``(T,)``, NaN if no joint is visible.

    Example:
        >>> pck(np.array([[[0.0, 0, 0]], [[0, 30, 0]]]), np.zeros((2, 1, 3)), thresholds=np.array([0.0, 50.0]))
        array([0.5, 1. ])
    """
    e, v = _visible_errors(pred, target, visible)
    columns = [e[v[:, j], j] for j in range(e.shape[1]) if v[:, j].any()]
    if not columns:
        return np.full(len(thresholds), np.nan)
    return np.mean([(c[:, None] <= thresholds).mean(0) for c in columns], 0)


def auc(values: Array, thresholds: Array) -> float:
    """Area under a PCK curve by the trapezoid rule, divided by that of a constant 1.

    Args:
        values: ``(T,)``.
        thresholds: ``(T,)``, ascending.

    Returns:
        The area, in [0, 1].

    Example:
        >>> auc(np.array([0.0, 1.0]), np.array([0.0, 50.0]))
        0.5
    """
    widths = np.diff(thresholds)
    return float((widths * (values[1:] + values[:-1]) / 2).sum() / widths.sum())


def procrustes(pred: Array, target: Array, weight: Array | None = None, *, scale: bool = True) -> Array:
    """Rotate, shift and scale joints onto others in the least-squares sense, without reflection (Umeyama 1991).

    Args:
        pred: ``[N, J, 3]``.
        target: ``[N, J, 3]``.
        weight: ``[N, J]``; 0 leaves a joint out of the fit. A frame whose weighted joints coincide is only shifted.
        scale: Whether to fit a scale.

    Returns:
        The aligned ``pred`` ``[N, J, 3]``.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(1, 5, 3))
        >>> moved = 2 * x @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + 7
        >>> bool(np.allclose(procrustes(moved, x), x))
        True
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    w = np.ones(pred.shape[:2]) if weight is None else np.asarray(weight, np.float64)
    total = np.maximum(w.sum(1), 1e-300)[:, None]
    # A joint of weight 0 may be NaN in the target, and 0 * NaN is NaN.
    used = (w > 0)[..., None]
    mean_p = (w[..., None] * np.where(used, pred, 0)).sum(1) / total
    mean_t = (w[..., None] * np.where(used, target, 0)).sum(1) / total
    p, t = pred - mean_p[:, None], target - mean_t[:, None]
    p_fit, t_fit = np.where(used, p, 0), np.where(used, t, 0)
    u, s, vt = np.linalg.svd(np.einsum("nj,nja,njb->nab", w, p_fit, t_fit))
    sign = np.linalg.det(u @ vt)
    s_signed = s * np.stack([np.ones_like(sign), np.ones_like(sign), sign], -1)
    u = u * np.stack([np.ones_like(sign), np.ones_like(sign), sign], -1)[:, None, :]
    variance = np.einsum("nj,nja->n", w, p_fit**2)
    factor = np.where(variance > 0, s_signed.sum(-1) / np.where(variance > 0, variance, 1), 1.0) if scale else 1.0
    return np.asarray(factor).reshape(-1, 1, 1) * (p @ (u @ vt)) + mean_t[:, None]


def pa_mpjpe(pred: Array, target: Array, visible: Array | None = None) -> float:
    """Mean per-joint position error after Procrustes alignment of each frame on its visible joints.

    It is averaged over a frame's visible joints, then over the frames that have any.

    Args:
        pred: ``[N, J, 3]`` mm.
        target: ``[N, J, 3]`` mm.
        visible: ``[N, J]`` bool; all if None.

    Returns:
        mm, NaN if no joint is visible.
    """
    _, v = _visible_errors(pred, target, visible)
    e = errors(procrustes(pred, target, v.astype(np.float64)), target)
    any_visible = v.any(1)
    if not any_visible.any():
        return float("nan")
    return float((np.where(v, e, 0).sum(1)[any_visible] / v.sum(1)[any_visible]).mean())


def summary(pred: Array, target: Array, visible: Array | None = None) -> Summary:
    """All metrics of some predictions.

    As in the paper, errors are averaged for each joint over the frames in which it is visible, then over joints: the
    root counts, a joint that is never visible does not.

    Args:
        pred: ``[N, J, 3]`` mm.
        target: ``[N, J, 3]`` mm.
        visible: ``[N, J]`` bool; all if None.

    Returns:
        The metrics.

    Example:
        >>> truth = np.random.default_rng(0).normal(0, 40, (100, 21, 3))
        >>> s = summary(truth + [3.0, 0, 4.0], truth)
        >>> round(s.epe_mean, 6), round(s.epe_median, 6), round(s.auc_20_50, 6)
        (5.0, 5.0, 1.0)
    """
    mean, median = epe_per_joint(pred, target, visible)
    curve = pck(pred, target, visible)
    known = np.isfinite(mean)
    return Summary(
        frames=len(np.asarray(pred)),
        epe_mean=float(mean[known].mean()) if known.any() else float("nan"),
        epe_median=float(median[known].mean()) if known.any() else float("nan"),
        pa_mpjpe=pa_mpjpe(pred, target, visible),
        auc_0_50=auc(curve, THRESHOLDS_MM),
        auc_20_50=auc(curve[-_LAST:], THRESHOLDS_MM[-_LAST:]),
        thresholds=THRESHOLDS_MM,
        pck=curve,
        per_joint_mean=mean,
        per_joint_median=median,
        within=WITHIN_MM,
        within_max=frames_within(pred, target, WITHIN_MM, visible),
        within_mean=frames_within(pred, target, WITHIN_MM, visible, of="mean"),
    )


def frames_within(
    pred: Array,
    target: Array,
    thresholds: Array,
    visible: Array | None = None,
    *,
    of: Literal["max", "mean"] = "max",
) -> Array:
    """Share of frames whose largest or mean error is within each threshold, as depth benchmarks plot it.

    Args:
        pred: ``[N, J, 3]`` mm.
        target: ``[N, J, 3]`` mm.
        thresholds: ``(T,)`` mm.
        visible: ``[N, J]`` bool; all if None. Frames without a visible joint are left out.
        of: The error of a frame.

    Returns:
        ``(T,)``, NaN if no joint is visible.

    Example:
        >>> frames_within(np.array([[[0.0, 0, 9]], [[0, 0, 30]]]), np.zeros((2, 1, 3)), np.array([10.0, 40.0]))
        array([0.5, 1. ])
    """
    e, v = _visible_errors(pred, target, visible)
    any_visible = v.any(1)
    if not any_visible.any():
        return np.full(len(thresholds), np.nan)
    e, v = e[any_visible], v[any_visible]
    frame = np.where(v, e, -np.inf).max(1) if of == "max" else np.where(v, e, 0).sum(1) / v.sum(1)
    return (frame[:, None] <= np.asarray(thresholds)).mean(0)


def _visible_errors(pred: Array, target: Array, visible: Array | None) -> tuple[Array, Array]:
    """Errors and visibility, both ``[N, J]``; a visible joint whose error is not finite is a ValueError."""
    e = errors(pred, target)
    v = np.ones(e.shape, bool) if visible is None else np.asarray(visible, bool)
    if v.shape != e.shape:
        raise ValueError(f"visible {v.shape} must be {e.shape}")
    bad = v & ~np.isfinite(e)
    if bad.any():
        n, j = np.argwhere(bad)[0]
        raise ValueError(f"{bad.sum()} visible joints have no finite error, the first is joint {j} of frame {n}")
    return e, v
