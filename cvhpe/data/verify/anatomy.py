"""What the bones of labelled hands say about their joint order, root and side.

A label cannot say that it is wrong, but a hand can: fingers bend to the palm, phalanges shorten towards
the tip, and a wrist is farther from the knuckles than a palm centre.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from cvhpe.geometry.skeleton import Layout, permutation

Array = np.ndarray
Detection = tuple[str, str, str, Literal["ok", "note", "warn", "fatal"]]

_ENOUGH = 10  # hands; a straight or overstretched hand bends the wrong way, so a few prove nothing
_FINGERS = ("index", "middle", "ring", "little")


def bend(xyz: Array, of: Layout) -> Array:
    """FusionParams far the fingers bend towards where a right hand has its palm; ``(N,)`` mm, negative for left hands.

    ``xyz`` is ``(N, J, 3)`` in a frame with x right, y down, z forward. NaN where a joint is not labelled.
    """
    middle, index, little = (of.fingers[f][0] for f in ("middle", "index", "little"))
    up, across = xyz[:, middle] - xyz[:, of.root], xyz[:, little] - xyz[:, index]
    normal = np.cross(up, across)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    total = np.zeros(len(xyz))
    for finger in _FINGERS:
        base, second, *_, tip = of.fingers[finger]
        along = xyz[:, second] - xyz[:, base]
        along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
        rest = xyz[:, tip] - xyz[:, second]
        total += ((rest - (rest * along).sum(-1, keepdims=True) * along) * normal).sum(-1)
    return total


def check(xyz: Array, side: Array, of: Layout, root: str) -> list[Detection]:
    """Rows for ``data verify``: side against bend, order along the fingers, kind of root. NaN joints are left out."""
    if any(len(chain) < 3 for chain in of.fingers.values()):
        return []
    rows: list[Detection] = []
    turn = bend(xyz, of)
    known = np.isfinite(turn)
    if known.any():
        enough = known.sum() >= _ENOUGH
        agree = float(((turn > 0) == (side == 1))[known].mean())
        verdict: Literal["ok", "warn", "fatal"] = (
            "ok" if agree > 0.65 else "fatal" if enough and agree < 0.3 else "warn"
        )
        rows.append(("fingers bend as the side says", f"{agree:.0%} of hands", "over 65 %", verdict))
    if len(of) != 21:
        return rows
    hand = xyz[:, list(permutation(of, "hand21"))]
    bases = [5, 9, 13, 17]
    with np.errstate(all="ignore"):
        first = sum(np.linalg.norm(hand[:, b + 1] - hand[:, b], axis=-1) for b in bases)
        last = sum(np.linalg.norm(hand[:, b + 3] - hand[:, b + 2], axis=-1) for b in bases)
        longer = float(np.nanmedian(first / last)) if np.isfinite(first / last).any() else np.nan
        reach = np.linalg.norm(hand[:, 9] - hand[:, 0], axis=-1) / np.linalg.norm(hand[:, 10] - hand[:, 9], axis=-1)
        far = float(np.nanmedian(reach)) if np.isfinite(reach).any() else np.nan
    if np.isfinite(longer):
        rows.append(
            ("first over last phalanx", f"{longer:.2f}", "over 1.1", "ok" if longer > 1.1 else "fatal")
            if longer > 0.95
            else ("first over last phalanx", f"{longer:.2f}: labelled tip to base?", "over 1.1", "fatal")
        )
    if np.isfinite(far):
        fits = far > 1.6 if root == "wrist" else far < 2.0
        rows.append(("root to middle knuckle, in scale bones", f"{far:.2f}", f"a {root}", "ok" if fits else "warn"))
    return rows
