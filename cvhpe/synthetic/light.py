"""Light on a synthetic hand: a coloured sky, a soft key and weaker lamps, shadows of the hand on itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

Array = np.ndarray
_F = np.float32


@dataclass(frozen=True)
class Light:
    """The lights of a frame.

    Attributes:
        direction: ``[L, 3]`` unit vectors to the lamps, the key light first.
        colour: ``[L, 3]`` linear RGB.
        up: ``[3]`` unit vector.
        sky: ``[3]`` ambient colour from above.
        ground: ``[3]`` ambient colour from below.
        soft: Tangent of the half angle of the key light's penumbra.
    """

    direction: Array
    colour: Array
    up: Array
    sky: Array
    ground: Array
    soft: float

    @staticmethod
    def sample(rng: np.random.Generator) -> Light:
        """Sample one to three lamps, most of them in front of the hand, tinted between candle and sky."""
        n = int(rng.integers(1, 4))
        direction = rng.normal(size=(3, 3)) + np.array([0.0, -0.5, -0.9])
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        warm = rng.normal(0, 0.12, (4, 1)) * np.array([1.0, 0.1, -1.1])
        strength = np.array([[rng.uniform(0.7, 1.6)], [rng.uniform(0.1, 0.6)], [rng.uniform(0.05, 0.4)]])
        colour = strength * np.exp(warm[:3] + rng.normal(0, 0.03, (3, 3)))
        sky = rng.uniform(0.15, 0.65) * np.exp(warm[3])
        up = np.array([0.0, -1.0, 0.0]) + rng.normal(0, 0.4, 3)
        ground = sky * rng.uniform(0.35, 0.9) * np.exp(rng.normal(0, 0.08, 3))
        soft = rng.uniform(0.06, 0.35)
        return Light(
            direction[:n].astype(_F),
            colour[:n].astype(_F),
            (up / np.linalg.norm(up)).astype(_F),
            sky.astype(_F),
            ground.astype(_F),
            float(soft),
        )


def ambient_occlusion(depth: Array, reach: float, mm: float) -> Array:
    """Ambient occlusion in screen space.

    Args:
        depth: ``[H, W]`` mm.
        reach: Radius of what counts, px.
        mm: Difference of depth that closes a side altogether.

    Returns:
        ``[H, W]`` how open to the sky each pixel is, in [0, 1].
    """
    half = depth[::2, ::2]
    closed = np.zeros_like(half)
    for ring, (radius, weight) in enumerate(((0.35 * reach, 0.45), (reach, 0.55))):
        for k in range(6):
            angle = (k + 0.5 * ring) * np.pi / 3
            dx, dy = (round(0.5 * radius * c) for c in (np.cos(angle), np.sin(angle)))
            rise = half - np.roll(half, (dy, dx), (0, 1))
            # Something far in front of the pixel is another object and does not occlude it.
            lean = np.clip(rise / _F(mm * radius / reach), 0, 1) * (1 - np.clip(rise / _F(6 * mm) - 1, 0, 1))
            closed += _F(weight / 6) * lean
    opened = 1 - uniform_filter(closed, 3)
    return np.repeat(np.repeat(opened, 2, 0), 2, 1)


def capsule_shadow(point: Array, a: Array, b: Array, radius: Array, direction: Array, soft: float) -> Array:
    """Soft shadows of capsules.

    Args:
        point: ``[3, N]`` mm.
        a: ``[K, 3]`` first ends of the capsules.
        b: ``[K, 3]`` second ends.
        radius: ``[K]`` mm.
        direction: ``[3]`` unit vector to the light.
        soft: Tangent of the half angle of the penumbra.

    Returns:
        ``[N]`` share of the light that arrives, in [0, 1].
    """
    x, y, z = point
    t = [_F(v) for v in direction]
    depth = x * t[0] + y * t[1] + z * t[2]
    length2 = x * x + y * y + z * z
    lit = np.ones(len(x), _F)
    for a_k, b_k, r in zip(a, b, radius, strict=True):
        # Closest approach of the ray to the light and the capsule's segment, both measured from a_k.
        u = b_k - a_k
        along, uu = _F(u @ direction), _F(u @ u)
        under = max(float(uu - along * along), 1e-3)
        wt = depth - _F(a_k @ direction)
        wu = x * u[0] + y * u[1] + z * u[2] - _F(a_k @ u)
        h = (wu - along * wt) * _F(1 / under)
        np.minimum(np.maximum(h, 0, out=h), 1, out=h)
        s = h * along - wt
        gap = length2 - 2 * (x * a_k[0] + y * a_k[1] + z * a_k[2]) + _F(a_k @ a_k) + h * (h * uu - 2 * wu) - s * s
        gap = np.sqrt(np.maximum(gap, 0, out=gap), out=gap) - r
        # A capsule casts no shadow on itself; near ones cast sharper edges.
        gap /= np.maximum(_F(soft) * s + 1, 1)
        gap += 0.5
        lit = np.minimum(lit, np.where(s > 1.1 * r, np.maximum(gap, 0), 1))
    return lit


def shadow_map(
    pixel: Array, point: Array, size: int, a: Array, b: Array, radius: Array, direction: Array, soft: float
) -> Array:
    """:func:`capsule_shadow` of pixels, computed for one in four and smoothed.

    Args:
        pixel: ``[N]`` row * size + column.
        point: ``[3, N]`` mm.
        size: Side of the frame, px.
        a: ``[K, 3]`` first ends of the capsules.
        b: ``[K, 3]`` second ends.
        radius: ``[K]`` mm.
        direction: ``[3]`` unit vector to the light.
        soft: Tangent of the half angle of the penumbra.

    Returns:
        ``[N]`` share of the light that arrives.
    """
    x, y = pixel % size, pixel // size
    few = ((x | y) & 1) == 0
    half = size // 2
    cell = (y // 2) * half + x // 2
    light = np.zeros((2, half * half), _F)
    light[0, cell[few]] = capsule_shadow(point[:, few], a, b, radius, direction, soft)
    light[1, cell[few]] = 1
    lit, known = (uniform_filter(v.reshape(half, half), 3).reshape(-1)[cell] for v in light)
    return np.where(known > 0.01, lit / np.maximum(known, 0.01), 1).astype(_F)


def shade(
    point: Array, normal: Array, albedo: Array, gloss: Array, shine: Array, opened: Array, lit: Array, light: Light
) -> Array:
    """Shade lit skin: wrapped diffuse (red wraps furthest, as under skin) and a weak highlight.

    Args:
        point: ``[3, N]`` mm, camera frame.
        normal: ``[3, N]`` unit vectors.
        albedo: ``[3, N]`` linear RGB.
        gloss: ``[N]`` strength of the highlight.
        shine: ``[N]`` exponent of the highlight.
        opened: ``[N]`` of :func:`ambient_occlusion`.
        lit: ``[N]`` of :func:`shadow_map`, for the key light.
        light: The lights.

    Returns:
        ``[3, N]`` linear RGB.
    """
    upward = 0.5 + 0.5 * (light.up @ normal)
    out = albedo * (light.ground[:, None] + upward * (light.sky - light.ground)[:, None]) * opened
    view = point / -np.sqrt((point * point).sum(0))
    for k, (direction, colour) in enumerate(zip(light.direction, light.colour, strict=True)):
        cosine = direction @ normal
        arrives = lit if k == 0 else 0.5 + 0.5 * opened
        half = view + direction[:, None]
        peak = (half * normal).sum(0) / np.sqrt(np.maximum((half * half).sum(0), _F(1e-12)))
        specular = gloss * np.power(np.maximum(peak, 0), shine) * (cosine > 0) * arrives
        for c, (wrap, bleed) in enumerate(((0.34, 0.10), (0.20, 0.03), (0.15, 0.02))):
            # Light that the hand itself blocks still bleeds through as red.
            diffuse = np.maximum(cosine + wrap, 0) * (1 / (1 + wrap)) * (bleed + (1 - bleed) * arrives)
            out[c] += colour[c] * (albedo[c] * diffuse + specular)
    return out
