"""Hands on matplotlib axes: bones in the colours of their fingers, or in one colour to tell hands apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvhpe.geometry.skeleton import LAYOUTS, Layout, layout

ELEVATION, AZIMUTH = 12.0, -75.0
"""Degrees from which 3D hands are looked at: nearly as the camera did, a little from above and the right."""


def layout_of(joints: np.ndarray, name: str | None = None) -> Layout:
    """The layout named, or the one of ours that has as many joints.

    >>> layout_of(np.zeros((16, 3))).name
    'icvl16'
    """
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
    """Draw joints ``(J, 2)``, x right and y down, on 2D axes; NaN joints are left out.

    colour: of the whole hand; None gives each finger its own.
    """
    one = layout_of(joints, name)
    for strand, at in _strands(one, colour):
        axes.plot(*_along(joints, at).T, color=strand, lw=width, **style)
    dots = colour or [one.colour(j) for j in range(len(one))]
    axes.scatter(joints[:, 0], joints[:, 1], s=4 * width, color=dots, **style)
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
    """Draw joints ``(J, 3)`` of the camera frame on 3D axes: x right, depth into the picture, y down.

    The axes then show this hand; :func:`frame3d` makes them show several.
    """
    one = layout_of(joints, name)
    at3d = _upright(joints)
    for strand, at in _strands(one, colour):
        axes.plot(*_along(at3d.T, at).T, color=strand, lw=width, marker="o", ms=1.1 * width, mew=0, **style)
    frame3d(axes, joints)


def frame3d(axes: Any, *hands: np.ndarray, reach: float | None = None) -> None:
    """Let 3D axes show all of some hands ``(J, 3)``, undistorted, on a quiet ground.

    reach: half the side of the cube that is shown; by default as much as the hands need.
    """
    points = np.concatenate([_upright(h).T for h in hands])
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        points = np.zeros((1, 3))
    centre = (points.min(0) + points.max(0)) / 2
    half = reach or 1.02 * float(np.abs(points - centre).max()) or 1.0
    for axis, at in zip("xyz", centre, strict=True):
        getattr(axes, f"set_{axis}lim")(at - half, at + half)
        one = getattr(axes, f"{axis}axis")
        one.set_ticks(list(np.linspace(at - half, at + half, 5)), [])
        one.set_tick_params(pad=-8)  # labels take room outside even where they are empty
        one.set_pane_color((0.965, 0.97, 0.98, 1.0))
        # matplotlib has no public way to these two
        one._axinfo["grid"].update(color="#dfe2e9", linewidth=0.4)
        one._axinfo["tick"].update(inward_factor=0.0, outward_factor=0.0)
        one.line.set_color("#cfd3dc")
    axes.set_box_aspect((1, 1, 1), zoom=1.3)
    axes.view_init(elev=ELEVATION, azim=AZIMUTH)


def _strands(one: Layout, colour: str | None) -> list[tuple[str, list[int]]]:
    """What is drawn in one stroke: a colour and its bones as a list of joints, -1 where the pen is lifted.

    A line for every bone would take an order of magnitude longer to draw.
    """
    strands: dict[str, list[int]] = {}
    for a, b in one.bones:
        at = strands.setdefault(colour or one.colour(b), [])
        at += [b] if at and at[-1] == a else [-1, a, b]
    return list(strands.items())


def _along(joints: np.ndarray, at: list[int]) -> np.ndarray:
    """The joints ``(J, k)`` of a strand, NaN where the pen is lifted."""
    return np.where(np.array(at)[:, None] < 0, np.nan, joints[at])


def _upright(joints: np.ndarray) -> np.ndarray:
    """Camera frame ``(J, 3)`` -> matplotlib's x, y, z ``(3, J)``: its z is up and its y goes into the picture."""
    return np.stack([joints[:, 0], joints[:, 2], -joints[:, 1]])


def in_picture(points: np.ndarray, size: int) -> np.ndarray:
    """Crop fractions ``(J, 2)`` -> pixels of a picture of the crop, centre of the top-left pixel (0, 0).

    >>> in_picture(np.array([[0.0, 0.0], [-0.5, 0.5]]), 64)
    array([[31.5, 31.5],
           [-0.5, 63.5]])
    """
    return points * size + (size - 1) / 2
