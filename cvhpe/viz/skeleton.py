"""Hand skeletons on matplotlib axes: each finger in its colour, or a whole hand in one colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvhpe.geometry.skeleton import LAYOUTS, Layout, layout

ELEVATION, AZIMUTH = 12.0, -75.0
"""Viewing angles of 3D hands, in degrees: the camera's direction, from slightly above and to the right."""


def infer_layout(joints: np.ndarray, joint_layout: str | Layout | None = None) -> Layout:
    """The given layout, or the first known one with as many joints.

    Args:
        joints: Joints ``(J, k)``.
        joint_layout: A layout or its name; None infers it.

    Returns:
        The layout of the joints.

    Raises:
        ValueError: No layout has ``J`` joints.

    Example:
        >>> infer_layout(np.zeros((16, 3))).name
        'icvl16'
    """
    if joint_layout is not None:
        return layout(joint_layout)
    for candidate in (LAYOUTS["hand21"], *LAYOUTS.values()):
        if len(candidate) == len(joints):
            return candidate
    raise ValueError(f"no layout has {len(joints)} joints")


def plot_hand_2d(
    axes: Any,
    joints: np.ndarray,
    *,
    joint_layout: str | Layout | None = None,
    visible: np.ndarray | None = None,
    colour: str | None = None,
    width: float = 1.5,
    outline: bool = False,
    **style: Any,
) -> None:
    """Plot 2D joints and bones; x points right, y down. Joints that are NaN are left out.

    Args:
        axes: 2D matplotlib axes.
        joints: Joints ``(J, 2)``, in the units of the axes.
        joint_layout: Joint layout or its name; None infers it from ``J``.
        visible: ``(J,)`` bool; the others are plotted black with a coloured edge. None: all are visible.
        colour: Colour of the whole hand; None gives each finger its own.
        width: Line width in points.
        outline: Add a dark rim, which separates the skeleton from an image below it.
        style: Further properties of matplotlib lines and markers.
    """
    skeleton = infer_layout(joints, joint_layout)
    if outline:
        for _, at in _strokes(skeleton, "black"):
            axes.plot(*_polyline(joints, at).T, color="black", lw=width + 1.2, solid_capstyle="round", alpha=0.6)
    for stroke_colour, at in _strokes(skeleton, colour):
        axes.plot(*_polyline(joints, at).T, color=stroke_colour, lw=width, solid_capstyle="round", **style)
    edges = [colour or skeleton.colour(j) for j in range(len(skeleton))]
    filled = np.ones(len(joints), bool) if visible is None else np.asarray(visible, bool)
    faces = [c if f else "black" for c, f in zip(edges, filled, strict=True)]
    rim: dict[str, Any] = {"edgecolors": edges, "linewidths": max(0.5, width / 3)}
    if outline:
        rim |= {"edgecolors": ["black" if f else c for c, f in zip(edges, filled, strict=True)], "zorder": 3}
    axes.scatter(joints[:, 0], joints[:, 1], s=(6 if outline else 4) * width, c=faces, **rim, **style)
    axes.set_aspect("equal")
    if not axes.yaxis_inverted():
        axes.invert_yaxis()


def plot_hand_3d(
    axes: Any,
    joints: np.ndarray,
    *,
    joint_layout: str | Layout | None = None,
    colour: str | None = None,
    width: float = 1.5,
    **style: Any,
) -> None:
    """Plot 3D joints and bones, and fit the axes to them; :func:`fit_axes_3d` fits them to several hands.

    Args:
        axes: 3D matplotlib axes.
        joints: Joints ``(J, 3)`` in the camera frame: x right, y down, z forward.
        joint_layout: Joint layout or its name; None infers it from ``J``.
        colour: Colour of the whole hand; None gives each finger its own.
        width: Line width in points.
        style: Further properties of matplotlib lines.
    """
    for stroke_colour, at in _strokes(infer_layout(joints, joint_layout), colour):
        line = _polyline(_z_up(joints), at)
        axes.plot(*line.T, color=stroke_colour, lw=width, marker="o", ms=1.1 * width, mew=0, **style)
    fit_axes_3d(axes, joints)


def fit_axes_3d(axes: Any, *hands: np.ndarray, half_side: float | None = None) -> None:
    """Set the limits of 3D axes to a cube around some hands, without ticks and seen from the camera.

    Args:
        axes: 3D matplotlib axes.
        hands: Joints ``(J, 3)`` in the camera frame.
        half_side: Half the side of the cube; None fits it to the hands.
    """
    points = np.concatenate([_z_up(h) for h in hands])
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        points = np.zeros((1, 3))
    centre = (points.min(0) + points.max(0)) / 2
    half = half_side or 1.02 * float(np.abs(points - centre).max()) or 1.0
    for name, middle in zip("xyz", centre, strict=True):
        getattr(axes, f"set_{name}lim")(middle - half, middle + half)
        axis = getattr(axes, f"{name}axis")
        axis.set_ticks(list(np.linspace(middle - half, middle + half, 5)), [])
        axis.set_tick_params(pad=-8, color="none")  # empty labels take room, too
        axis.set_pane_color((0.965, 0.97, 0.98, 1.0))
        axis.line.set_color("#cfd3dc")
    axes.set_box_aspect((1, 1, 1), zoom=1.3)
    axes.view_init(elev=ELEVATION, azim=AZIMUTH)


def _strokes(skeleton: Layout, colour: str | None) -> list[tuple[str, list[int]]]:
    """One polyline a colour, as joint numbers with -1 at gaps: ten times faster than one line a bone."""
    strokes: dict[str, list[int]] = {}
    for a, b in skeleton.bones:
        at = strokes.setdefault(colour or skeleton.colour(b), [])
        at += [b] if at and at[-1] == a else [-1, a, b]
    return list(strokes.items())


def _polyline(joints: np.ndarray, at: list[int]) -> np.ndarray:
    """The joints ``(n, k)`` of a stroke, NaN at its gaps."""
    return np.where(np.array(at)[:, None] < 0, np.nan, joints[at])


def _z_up(joints: np.ndarray) -> np.ndarray:
    """Camera frame ``(J, 3)`` to matplotlib's, whose z points up and whose y points away."""
    return np.stack([joints[:, 0], joints[:, 2], -joints[:, 1]], axis=1)


def crop_to_pixels(points: np.ndarray, size: int) -> np.ndarray:
    """Convert crop fractions to pixels of the crop's image; the centre of the top-left pixel is (0, 0).

    Args:
        points: Crop fractions ``(J, 2)`` in [-0.5, 0.5].
        size: Side of the image, px.

    Returns:
        Pixels ``(J, 2)``.

    Example:
        >>> crop_to_pixels(np.array([[0.0, 0.0], [-0.5, 0.5]]), 64)
        array([[31.5, 31.5],
               [-0.5, 63.5]])
    """
    return points * size + (size - 1) / 2
