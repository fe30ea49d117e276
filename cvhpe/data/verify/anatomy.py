"""Check joint order, root and side of labelled hands by their anatomy.

Fingers bend towards the palm, phalanges get shorter towards the tip, and a wrist is farther from the knuckles than a
palm centre is.
"""

from __future__ import annotations

import numpy as np

from cvhpe.data.verify.finding import Finding, Verdict
from cvhpe.geometry.skeleton import Layout, permutation

Array = np.ndarray

_MIN_HANDS = 10  # a straight or overextended hand bends the wrong way, so a few hands prove nothing
_FINGERS = ("index", "middle", "ring", "little")
_KNUCKLES = (5, 9, 13, 17)  # first joints of these fingers in the layout hand21


def finger_bend(xyz: Array, joint_layout: Layout) -> Array:
    """How far the fingers bend towards where a right hand has its palm.

    Args:
        xyz: joints ``(N, J, 3)`` mm, x right, y down, z forward; NaN if not labelled.
        joint_layout: their layout.

    Returns:
        ``(N,)`` mm, negative for left hands; NaN if a joint is not labelled.
    """
    middle, index, little = (joint_layout.fingers[f][0] for f in ("middle", "index", "little"))
    up, across = xyz[:, middle] - xyz[:, joint_layout.root], xyz[:, little] - xyz[:, index]
    normal = np.cross(up, across)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    total = np.zeros(len(xyz))
    for finger in _FINGERS:
        base, second, *_, tip = joint_layout.fingers[finger]
        along = xyz[:, second] - xyz[:, base]
        along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
        rest = xyz[:, tip] - xyz[:, second]
        total += ((rest - (rest * along).sum(-1, keepdims=True) * along) * normal).sum(-1)
    return total


def check_anatomy(xyz: Array, side: Array, joint_layout: Layout, root: str) -> list[Finding]:
    """Check side against bend, the order along the fingers, and what the root is.

    Args:
        xyz: joints ``(N, J, 3)`` mm; hands with NaN are left out.
        side: ``(N,)``, 0 left, 1 right.
        joint_layout: their layout.
        root: ``wrist`` or ``palm``.

    Returns:
        The findings; none for layouts with too few joints.
    """
    if any(len(chain) < 3 for chain in joint_layout.fingers.values()):
        return []
    findings: list[Finding] = []
    bend = finger_bend(xyz, joint_layout)
    known = np.isfinite(bend)
    if known.any():
        agreement = float(((bend > 0) == (side == 1))[known].mean())
        is_fatal = known.sum() >= _MIN_HANDS and agreement < 0.3
        verdict: Verdict = "ok" if agreement > 0.65 else "fatal" if is_fatal else "warn"
        findings.append(Finding("finger flexion matches side", f"{agreement:.0%} of hands", "over 65 %", verdict))
    if len(joint_layout) != 21:
        return findings
    hand = xyz[:, list(permutation(joint_layout, "hand21"))]
    with np.errstate(all="ignore"):
        first = sum(np.linalg.norm(hand[:, k + 1] - hand[:, k], axis=-1) for k in _KNUCKLES)
        last = sum(np.linalg.norm(hand[:, k + 3] - hand[:, k + 2], axis=-1) for k in _KNUCKLES)
        from_root = np.linalg.norm(hand[:, 9] - hand[:, 0], axis=-1)
        phalanx_ratio = _median(first / last)
        root_distance = _median(from_root / np.linalg.norm(hand[:, 10] - hand[:, 9], axis=-1))
    if np.isfinite(phalanx_ratio):
        found = f"{phalanx_ratio:.2f}" if phalanx_ratio > 0.95 else f"{phalanx_ratio:.2f}: labelled tip to base?"
        verdict = "ok" if phalanx_ratio > 1.1 else "fatal"
        findings.append(Finding("proximal / distal phalanx", found, "over 1.1", verdict))
    if np.isfinite(root_distance):
        check, expected = "root to middle MCP / scale bone", "over 1.6: wrist" if root == "wrist" else "under 2: palm"
        verdict = "ok" if (root_distance > 1.6 if root == "wrist" else root_distance < 2.0) else "warn"
        findings.append(Finding(check, f"{root_distance:.2f}", expected, verdict))
    return findings


def _median(values: Array) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan
