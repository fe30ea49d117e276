"""Hands on matplotlib axes: bones in the colours of their fingers, or in one colour to tell hands apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvhpe.skeleton import LAYOUTS, Layout, layout


def layout_of(joints: np.ndarray, name: str | None) -> Layout:
    """The layout named, or the one of ours that has as many joints."""
    if name is not None:
        return layout(name)
    for one in (LAYOUTS["hand21"], *LAYOUTS.values()):
        if len(one) == len(joints):
            return one
    raise ValueError(f"no layout has {len(joints)} joints")


def draw2d(
    axes: Any,
    joints: np.ndarray,
    *,
    name: str | None = None,
    colour: str | None = None,
    width: float = 1.5,
    **style: Any,
) -> None:
    """Draw joints ``(J, 2)``, x right and y down, on 2D axes; NaN joints are left out."""
    one = layout_of(joints, name)
    for a, b in one.bones:
        axes.plot(joints[[a, b], 0], joints[[a, b], 1], color=colour or one.colour(b), lw=width, **style)
    axes.scatter(joints[:, 0], joints[:, 1], s=4 * width, color=colour or [one.colour(j) for j in range(len(one))])
    axes.set_aspect("equal")
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def draw3d(
    axes: Any,
    joints: np.ndarray,
    *,
    name: str | None = None,
    colour: str | None = None,
    width: float = 1.5,
    **style: Any,
) -> None:
    """Draw joints ``(J, 3)`` of the camera frame on 3D axes: x right, depth into the picture, y down."""
    one = layout_of(joints, name)
    # matplotlib's z is up and its y goes into the picture
    x, y, z = joints[:, 0], joints[:, 2], -joints[:, 1]
    for a, b in one.bones:
        axes.plot(x[[a, b]], y[[a, b]], z[[a, b]], color=colour or one.colour(b), lw=width, **style)
    centre = np.nanmean(np.stack([x, y, z]), axis=1)
    reach = float(np.nanmax(np.abs(np.stack([x, y, z]).T - centre))) or 1.0
    axes.set_xlim(centre[0] - reach, centre[0] + reach)
    axes.set_ylim(centre[1] - reach, centre[1] + reach)
    axes.set_zlim(centre[2] - reach, centre[2] + reach)
    axes.set_box_aspect((1, 1, 1))
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    axes.set_zticklabels([])
