"""The skin of a synthetic hand: tone, creases, wrinkles, nails. Colours are linear RGB in [0, 1]."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from cvhpe.synthetic.surface import PALM_PART, PERSON_PART, Body

Array = np.ndarray

TONES = np.array(
    [
        [0.80, 0.55, 0.44],
        [0.70, 0.44, 0.32],
        [0.57, 0.34, 0.23],
        [0.42, 0.235, 0.15],
        [0.26, 0.14, 0.088],
        [0.13, 0.070, 0.047],
    ]
)
_PALE = np.array([0.74, 0.45, 0.36])
_SIDE = 64  # of the noise volume, in cells


@dataclass(frozen=True)
class Skin:
    """A person's skin.

    Attributes:
        tone: 0 (light) to 5 (dark).
        flush: Strength of redness, about 1; mottle, crease and bump likewise.
        gloss: Strength of highlights.
        nail: Linear RGB of the nails.
        painted: Whether that is varnish.
    """

    tone: float
    flush: float
    mottle: float
    crease: float
    bump: float
    gloss: float
    nail: Array
    painted: bool

    @staticmethod
    def sample(rng: np.random.Generator) -> Skin:
        """Sample a person's skin, always with the same number of random numbers."""
        tone = 5 * rng.beta(1.1, 1.6)
        flush, mottle, crease, bump = np.exp(rng.normal(0, 0.35, 4))
        gloss, painted, varnish = rng.uniform(0.06, 0.28), rng.random() < 0.07, rng.uniform(0, 0.8, 3) ** 1.5
        bare = 0.55 * tone_colour(tone) + 0.45 * np.array([0.78, 0.52, 0.46])
        return Skin(tone, flush, mottle, crease, bump, gloss, varnish if painted else bare, painted)


@dataclass(frozen=True)
class SurfaceMaterial:
    """The surface of N pixels.

    Attributes:
        albedo: ``[3, N]`` linear RGB.
        gloss: ``[N]`` strength of the highlight.
        shine: ``[N]`` its exponent.
        tilt: ``[3, N]`` to add to the normals.
    """

    albedo: Array
    gloss: Array
    shine: Array
    tilt: Array


def tone_colour(tone: float) -> Array:
    """Linear RGB of a tone between 0 and 5."""
    return np.array([np.interp(tone, np.arange(6), TONES[:, c]) for c in range(3)])


@cache
def noise_volume() -> tuple[Array, Array, Array]:
    """Periodic noise of unit variance, ``[64**3]``: fine, broad, and the gradient ``[3, 64**3]`` of the fine one."""
    white = np.random.default_rng(20180618).standard_normal((_SIDE,) * 3).astype(np.float32)
    smooth = gaussian_filter(white, 1.2, mode="wrap")
    smooth /= smooth.std()
    gradient = np.stack([0.5 * (np.roll(smooth, -1, a) - np.roll(smooth, 1, a)) for a in range(3)])
    broad = gaussian_filter(white, 4.0, mode="wrap")
    return smooth.reshape(-1), (broad / broad.std()).reshape(-1), gradient.reshape(3, -1)


def noise_indices(position: Array, cell: float) -> Array:
    """Indices into :func:`noise_volume`.

    Args:
        position: ``[3, N]`` mm.
        cell: Width of a cell, mm.

    Returns:
        ``[N]`` flat indices.
    """
    i = np.floor(position * np.float32(1 / cell)).astype(np.int32) & (_SIDE - 1)
    return (i[0] * _SIDE + i[1]) * _SIDE + i[2]


def _line(x: Array, width: float) -> Array:
    return np.exp(-((x / width) ** 2))


def _step(x: Array, low: float, high: float) -> Array:
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def paint_skin(
    body: Body,
    skin: Skin,
    point: Array,
    normal: Array,
    capsule: Array,
    along: Array,
    back: Array,
    wrist: Array,
    axes: Array,
    size: float,
) -> SurfaceMaterial:
    """Compute the material of the skin at N pixels of a body.

    Args:
        body: A finger, or the palm or forearm.
        skin: Of the person.
        point: ``[3, N]`` mm, camera frame.
        normal: ``[3, N]`` unit vectors.
        capsule: ``[N]`` which capsule of the body.
        along: ``[N]`` mm along that capsule.
        back: ``[3, N]`` unit vectors to the dorsal side.
        wrist: ``[3]`` mm.
        axes: ``[3, 3]``, rows: radial, distal and palmar unit vectors of the palm.
        size: Hand length, mm.

    Returns:
        The surface.
    """
    f = np.float32
    dorsal = (normal * back).sum(0)
    part = body.part[capsule]
    at = (along + body.at[capsule]).astype(f)
    long = body.long[capsule].astype(f)
    radius = body.ra[capsule]
    if body.finger >= 0:
        axis = body.b - body.a
        axis = axis / np.maximum(np.sqrt((axis * axis).sum(1, keepdims=True)), 1e-3)
        side = np.cross(axis, body.back).T[:, capsule]
        off = point - body.a.T[:, capsule]
        across = (off * side).sum(0)
        local = np.stack(
            [at + 40 * (part % 3).astype(f), across, (off * body.back.T[:, capsule]).sum(0) + 31 * body.finger]
        )
    else:
        across = np.zeros_like(at)
        local = axes.astype(f) @ (point - wrist[:, None])
    smooth, wide, gradient = noise_volume()
    fine, medium = noise_indices(local, 0.55), noise_indices(local, 1.9)
    broad = wide[medium]

    palmar = _step(-dorsal, -0.25, 0.55)
    tone = tone_colour(skin.tone).astype(f)
    pale = 0.18 + 0.11 * skin.tone
    lighter = _PALE.astype(f) * f(0.75 + 0.25 * (1 - skin.tone / 5)) - tone
    albedo = tone[:, None] + (palmar * f(pale)) * lighter[:, None]
    dark = np.zeros_like(at)
    flush = 0.25 * palmar
    nail = np.zeros_like(at)
    if body.finger >= 0:
        bone = 2 - part % 3
        first, last = bone == 0, bone == 2
        # Flexion creases on the palmar side of each joint, wrinkles over its back.
        near, far = at, long - at
        for gap, has_joint in ((near, ~first), (far, ~last)):
            dark += 0.34 * palmar * has_joint * (_line(gap - 0.7, 0.55) + 0.5 * _line(gap + 1.2, 0.45))
            wave = np.cos(gap * f(2.9) + smooth[medium] * f(0.8)) * _line(gap, 4.0)
            dark += 0.13 * (1 - palmar) * has_joint * (wave + 0.8 * _line(gap, 4.5))
            flush = flush + 0.55 * (1 - palmar) * has_joint * _line(gap, 5.0)
        if body.finger:
            dark += 0.30 * palmar * first * _line(at - 0.42 * long, 0.7)
        flush = flush + last * _step(at / long, 0.45, 1.0) * 0.8
        u = (at - 0.46 * long) / (0.62 * long + 0.5 * radius)
        v = across / (0.74 * radius)
        edge = np.abs(v) ** 3 + np.abs(2 * u - 1) ** 3
        nail = last * (dorsal > 0.15) * (1 - _step(edge, 0.72, 0.98))
        dark += 0.28 * last * (dorsal > 0.1) * _line(edge - 1.05, 0.2)
        if not skin.painted:
            white = nail * _step(u, 0.86, 0.93)
            nail_colour = skin.nail.astype(f)[:, None] + white * ((f(0.85) - skin.nail.astype(f)) * f(0.6))[:, None]
        else:
            nail_colour = np.broadcast_to(skin.nail.astype(f)[:, None], albedo.shape)
    else:
        x, y = local[0] / f(size), local[1] / f(size)
        in_palm = palmar * ((part == PALM_PART) | (part < PALM_PART))
        lined = np.flatnonzero(in_palm > 0.02)
        for curve, width in zip(_PALM_LINES, (1.0, 0.9, 0.8), strict=True):
            dark[lined] += 0.36 * in_palm[lined] * _line(_gap(x[lined], y[lined], curve) * f(size), width)
        wrist_lines = _line(local[1] - 2, 0.8) + 0.7 * _line(local[1] + 5 + 0.02 * local[0] ** 2, 0.7)
        dark += 0.22 * palmar * wrist_lines * (np.abs(local[0]) < 0.14 * size)
        flush = flush + 0.35 * palmar * (part != PERSON_PART)
        # Knuckles.
        dark += 0.10 * (1 - palmar) * (part < PALM_PART) * (1 + np.cos(at * f(1.9) + smooth[medium])) * _line(at, 6.0)
        flush = flush + 0.5 * (1 - palmar) * (part < PALM_PART) * _line(at, 8.0)
        nail_colour = albedo
    mottle = f(0.026 * skin.mottle) * smooth[fine] + f(0.018 * skin.mottle) * smooth[medium]
    mottle += f(0.04 * skin.mottle) * broad
    shade = (1 + mottle) * (1 - np.clip(dark * f(skin.crease), 0, 0.65))
    red = flush * f(0.14 * skin.flush) + f(0.06 * skin.flush) * broad
    albedo *= shade
    for c, share in enumerate((-0.1, 1.0, 0.8)):
        albedo[c] *= 1 - np.clip(red * share, -0.2, 0.5)
    if nail.any():
        albedo += nail * (nail_colour - albedo)
    rough = f(skin.bump) * (1 - 0.9 * nail)
    tilt = (gradient[:, fine] * f(0.10) + gradient[:, medium] * f(0.07)) * rough
    gloss = f(skin.gloss) * (1 + 0.25 * smooth[medium]) * (1 + 1.5 * nail)
    return SurfaceMaterial(np.clip(albedo, 0.005, 1), gloss, f(14) + 50 * nail, tilt)


def _bezier(points: list[tuple[float, float]]) -> Array:
    p = np.array(points)
    t = np.linspace(0, 1, 9)[:, None]
    return ((1 - t) ** 2 * p[0] + 2 * t * (1 - t) * p[1] + t**2 * p[2]).astype(np.float32)


# The three main creases of a palm, in hand lengths from the wrist (x radial, y distal).
_PALM_LINES = (
    _bezier([(0.11, 0.36), (-0.02, 0.34), (0.015, 0.06)]),
    _bezier([(0.11, 0.37), (0.03, 0.36), (-0.12, 0.24)]),
    _bezier([(-0.16, 0.33), (-0.02, 0.35), (0.05, 0.47)]),
)


def _gap(x: Array, y: Array, curve: Array) -> Array:
    """Distance ``[N]`` of points to a polyline."""
    least = np.full(x.shape, np.inf, np.float32)
    for (ax, ay), (bx, by) in itertools.pairwise(curve):
        dx, dy = bx - ax, by - ay
        s = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        np.minimum(least, (x - ax - s * dx) ** 2 + (y - ay - s * dy) ** 2, out=least)
    return np.sqrt(least)
