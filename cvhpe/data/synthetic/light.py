"""Light on a synthetic hand: a coloured sky, a soft key and weaker lamps, shadows of the hand on itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

Array = np.ndarray
_F = np.float32


@dataclass(frozen=True)
class Light:
    """toward: ``[L, 3]`` unit vectors to the lamps, the first being the key. colour: ``[L, 3]``.
    up: ``[3]``. sky, ground: ``[3]`` ambient colours. soft: of the key's shadow, tangent of its half angle.
    """

    toward: Array
    colour: Array
    up: Array
    sky: Array
    ground: Array
    soft: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Light:
        """One to three lamps, most of them before the hand, tinted between candle and sky."""
        n = int(rng.integers(1, 4))
        toward = rng.normal(size=(3, 3)) + np.array([0.0, -0.5, -0.9])
        toward /= np.linalg.norm(toward, axis=1, keepdims=True)
        warm = rng.normal(0, 0.12, (4, 1)) * np.array([1.0, 0.1, -1.1])
        strength = np.array([[rng.uniform(0.6, 1.3)], [rng.uniform(0.1, 0.6)], [rng.uniform(0.05, 0.4)]])
        colour = strength * np.exp(warm[:3] + rng.normal(0, 0.03, (3, 3)))
        sky = rng.uniform(0.25, 0.75) * np.exp(warm[3])
        up = np.array([0.0, -1.0, 0.0]) + rng.normal(0, 0.4, 3)
        ground = sky * rng.uniform(0.35, 0.9) * np.exp(rng.normal(0, 0.08, 3))
        soft = rng.uniform(0.06, 0.35)
        return Light(
            toward[:n].astype(_F),
            colour[:n].astype(_F),
            (up / np.linalg.norm(up)).astype(_F),
            sky.astype(_F),
            ground.astype(_F),
            float(soft),
        )


def occlusion(depth: Array, reach: float, mm: float) -> Array:
    """How open to the sky each pixel is, in [0, 1], from the depth ``[H, W]`` mm around it.

    reach: radius of what counts, px. mm: of depth that closes a side altogether.
    """
    half = depth[::2, ::2]
    closed = np.zeros_like(half)
    for ring, (radius, weight) in enumerate(((0.35 * reach, 0.45), (reach, 0.55))):
        for k in range(6):
            angle = (k + 0.5 * ring) * np.pi / 3
            dx, dy = (round(0.5 * radius * c) for c in (np.cos(angle), np.sin(angle)))
            rise = half - np.roll(half, (dy, dx), (0, 1))
            # What stands far before the pixel is another thing and does not lean over it.
            lean = np.clip(rise / _F(mm * radius / reach), 0, 1) * (1 - np.clip(rise / _F(6 * mm) - 1, 0, 1))
            closed += _F(weight / 6) * lean
    opened = 1 - uniform_filter(closed, 3)
    return np.repeat(np.repeat(opened, 2, 0), 2, 1)


def shadow(point: Array, a: Array, b: Array, radius: Array, toward: Array, soft: float) -> Array:
    """How much of the key reaches ``[N, 3]`` points past ``[K]`` capsules ``a`` to ``b``, in [0, 1]."""
    lit = np.ones(len(point), _F)
    t = toward.astype(_F)
    for a_k, b_k, r in zip(a, b, radius, strict=True):
        # Closest approach of the ray to the light and the capsule's segment, both measured from a_k.
        u = b_k - a_k
        along = _F(u @ t)
        uu = _F(u @ u)
        w = point - a_k
        wt, wu = w @ t, w @ u
        under = max(float(uu - along * along), 1e-3)
        h = np.clip((wu - along * wt) / _F(under), 0, 1)
        s = h * along - wt
        d2 = (w * w).sum(1) + h * (h * uu - 2 * wu)
        gap = np.sqrt(np.maximum(d2 - s * s, 0)) - r
        # A point on the capsule itself is no shadow's; nearer ones have sharper edges.
        lit = np.minimum(lit, np.where(s > 1.1 * r, np.clip(0.5 + gap / (_F(soft) * s + 1.0), 0, 1), 1))
    return lit


def shade(
    point: Array, normal: Array, albedo: Array, gloss: Array, shine: Array, opened: Array, lit: Array, light: Light
) -> Array:
    """Linear RGB ``[N, 3]`` of lit skin: wrapped diffuse (red wraps furthest, as under skin), a little shine."""
    upward = 0.5 + 0.5 * (normal @ light.up)
    out = albedo * (light.ground + upward[:, None] * (light.sky - light.ground)) * opened[:, None]
    view = -point / np.sqrt((point * point).sum(1, keepdims=True))
    for k, (toward, colour) in enumerate(zip(light.toward, light.colour, strict=True)):
        cosine = normal @ toward
        arrives = (lit if k == 0 else 0.5 + 0.5 * opened)[:, None]
        wrap = np.array([0.34, 0.20, 0.15], _F)
        diffuse = np.clip((cosine[:, None] + wrap) / (1 + wrap), 0, None)
        half = view + toward
        half = half / np.maximum(np.sqrt((half * half).sum(1, keepdims=True)), 1e-6)
        mirror = gloss * np.clip((normal * half).sum(1), 0, 1) ** shine * (cosine > 0)
        # Light that is cut off by the hand itself still bleeds through as red.
        out += colour * (albedo * diffuse * (arrives + (1 - arrives) * np.array([0.10, 0.03, 0.02], _F)))
        out += colour * (mirror[:, None] * arrives)
    return out
