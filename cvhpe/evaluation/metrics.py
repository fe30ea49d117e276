"""The paper's metric, and what the depth benchmarks plot: pure functions of float64 arrays.

Predictions and truth are ``[N, J, 3]`` mm in one frame of reference (root-relative for the paper's
protocols, with the frame's own bone length multiplied back in where S is on); ``visible`` is ``[N, J]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray

THRESHOLDS_MM: Array = np.linspace(0.0, 50.0, 20)
"""Where PCK is measured; AUC 20-50 takes the last twelve, from 21.05 mm up."""
_LAST = 12
WITHIN_MM: Array = np.arange(0.0, 81.0, 5.0)
"""Where the share of frames within an error is measured."""


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` measures; mm throughout.

    per_joint_mean, per_joint_median: ``(J,)``, NaN for a joint that is never visible.
    pck: ``(20,)`` at ``thresholds``.
    within_max, within_mean: ``(17,)``, shares of frames whose largest or mean error is at most each of ``within``.
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
        """Plain numbers and lists, as ``evaluate --json`` prints them; ``joints`` names the ``J`` joints.

        A joint that is never visible has None for its errors.
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
    """End-point errors ``[N, J]`` mm: Euclidean distances of ``[N, J, 3]`` joints.

    >>> errors(np.array([[[3.0, 4.0, 0.0]]]), np.zeros((1, 1, 3)))
    array([[5.]])
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if pred.shape != target.shape or pred.ndim != 3 or pred.shape[-1] != 3:
        raise ValueError(f"pred {pred.shape} and target {target.shape} must both be (N, J, 3)")
    return np.linalg.norm(pred - target, axis=-1)


def epe_per_joint(pred: Array, target: Array, visible: Array | None = None) -> tuple[Array, Array]:
    """Mean and median error of each joint over the frames that show it: two ``(J,)``, NaN where none does.

    >>> mean, median = epe_per_joint(np.array([[[1.0, 0, 0]], [[2, 0, 0]], [[6, 0, 0]]]), np.zeros((3, 1, 3)))
    >>> float(mean[0]), float(median[0])
    (3.0, 2.0)
    """
    e, v = _shown(pred, target, visible)
    columns = [e[v[:, j], j] for j in range(e.shape[1])]
    mean = np.array([c.mean() if len(c) else np.nan for c in columns])
    median = np.array([np.median(c) if len(c) else np.nan for c in columns])
    return mean, median


def pck(pred: Array, target: Array, visible: Array | None = None, thresholds: Array = THRESHOLDS_MM) -> Array:
    """Share of errors <= each threshold: per joint over the frames that show it, then averaged over joints.

    >>> pck(np.array([[[0.0, 0, 0]], [[0, 30, 0]]]), np.zeros((2, 1, 3)), thresholds=np.array([0.0, 50.0]))
    array([0.5, 1. ])
    """
    e, v = _shown(pred, target, visible)
    columns = [e[v[:, j], j] for j in range(e.shape[1]) if v[:, j].any()]
    if not columns:
        return np.full(len(thresholds), np.nan)
    return np.mean([(c[:, None] <= thresholds).mean(0) for c in columns], 0)


def auc(values: Array, thresholds: Array) -> float:
    """Area under a PCK curve by the trapezoid rule, divided by that of a constant 1.

    >>> auc(np.array([0.0, 1.0]), np.array([0.0, 50.0]))
    0.5
    """
    widths = np.diff(thresholds)
    return float((widths * (values[1:] + values[:-1]) / 2).sum() / widths.sum())


def procrustes(pred: Array, target: Array, weight: Array | None = None, *, scale: bool = True) -> Array:
    """``pred`` ``[N, J, 3]`` turned, shifted (and scaled) onto ``target`` in the least-squares sense.

    Rotations only, no reflections (Umeyama 1991). ``weight`` ``[N, J]``, 0 leaves a joint out of the fit.
    A frame whose weighted joints coincide is only shifted.

    >>> x = np.random.default_rng(0).normal(size=(1, 5, 3))
    >>> turned = 2 * x @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + 7
    >>> bool(np.allclose(procrustes(turned, x), x))
    True
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    w = np.ones(pred.shape[:2]) if weight is None else np.asarray(weight, np.float64)
    total = np.maximum(w.sum(1), 1e-300)[:, None]
    # A joint of weight 0 may be NaN in the truth; 0 * NaN would spoil the sums.
    used = (w > 0)[..., None]
    mean_p = (w[..., None] * np.where(used, pred, 0)).sum(1) / total
    mean_t = (w[..., None] * np.where(used, target, 0)).sum(1) / total
    p, t = pred - mean_p[:, None], target - mean_t[:, None]
    p_fit, t_fit = np.where(used, p, 0), np.where(used, t, 0)
    u, s, vt = np.linalg.svd(np.einsum("nj,nja,njb->nab", w, p_fit, t_fit))
    sign = np.linalg.det(u @ vt)
    s_signed = s * np.stack([np.ones_like(sign), np.ones_like(sign), sign], -1)
    u = u * np.stack([np.ones_like(sign), np.ones_like(sign), sign], -1)[:, None, :]
    spread = np.einsum("nj,nja->n", w, p_fit**2)
    factor = np.where(spread > 0, s_signed.sum(-1) / np.where(spread > 0, spread, 1), 1.0) if scale else 1.0
    return np.asarray(factor).reshape(-1, 1, 1) * (p @ (u @ vt)) + mean_t[:, None]


def pa_mpjpe(pred: Array, target: Array, visible: Array | None = None) -> float:
    """Mean error after Procrustes alignment (rotation, translation, scale) of each frame on its visible joints.

    The mean over a frame's visible joints, then over the frames; frames that show no joint are left out.
    """
    _, v = _shown(pred, target, visible)
    e = errors(procrustes(pred, target, v.astype(np.float64)), target)
    shown = v.any(1)
    if not shown.any():
        return float("nan")
    return float((np.where(v, e, 0).sum(1)[shown] / v.sum(1)[shown]).mean())


def summary(pred: Array, target: Array, visible: Array | None = None) -> Summary:
    """The paper's metric (PAPER metadata, "The metric"): see the fields of :class:`Summary`.

    Per joint over the frames where it is visible: mean and median error; then the mean over joints, the
    root among them, a joint that is never visible left out.

    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(0, 40, (100, 21, 3))
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
    """Share of frames whose largest (or mean) visible error is <= each threshold, as depth benchmarks plot it.

    Frames that show no joint are left out.

    >>> frames_within(np.array([[[0.0, 0, 9]], [[0, 0, 30]]]), np.zeros((2, 1, 3)), np.array([10.0, 40.0]))
    array([0.5, 1. ])
    """
    e, v = _shown(pred, target, visible)
    shown = v.any(1)
    if not shown.any():
        return np.full(len(thresholds), np.nan)
    e, v = e[shown], v[shown]
    frame = np.where(v, e, -np.inf).max(1) if of == "max" else np.where(v, e, 0).sum(1) / v.sum(1)
    return (frame[:, None] <= np.asarray(thresholds)).mean(0)


def _shown(pred: Array, target: Array, visible: Array | None) -> tuple[Array, Array]:
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
