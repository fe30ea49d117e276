"""What is behind and in front of a synthetic hand: shapes, gradients and noise, no photos.

Colours are display values (gamma-coded) in [0, 1], depth is mm along the optical axis.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray


def _colour(rng: np.random.Generator) -> Array:
    """A colour: mostly dull, sometimes like skin, so that hue alone does not identify the hand."""
    if rng.random() < 0.2:
        return np.clip(np.array([0.80, 0.60, 0.48]) * rng.uniform(0.35, 1.2) + rng.normal(0, 0.04, 3), 0, 1)
    grey = rng.uniform(0.03, 0.97)
    return np.clip(grey + rng.normal(0, rng.choice([0.04, 0.12, 0.3]), 3), 0, 1)


def _byte(colour: Array) -> tuple[int, int, int]:
    r, g, b = (round(float(255 * c)) for c in colour)
    return r, g, b


def _octaves(rng: np.random.Generator, size: int, start: int, count: int) -> Array:
    """Smooth noise ``[size, size]`` of zero mean: noise images of growing detail and falling strength."""
    out = np.zeros((size, size), np.float32)
    for octave in range(count):
        cells = start * 2**octave
        small = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
        out += np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)) * np.float32(0.6**octave)
    return out


def _blob(rng: np.random.Generator, centre: Array, radius: float) -> list[tuple[float, float]]:
    """The corners of a random shape about a point."""
    n = int(rng.integers(3, 9))
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    reach = radius * rng.uniform(0.4, 1.2, n)
    return [
        (float(x), float(y))
        for x, y in zip(centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle), strict=True)
    ]


def paint_background(rng: np.random.Generator, size: int, behind: float) -> tuple[Array, Array]:
    """Paint a background.

    Args:
        rng: Source of randomness.
        size: Side of the frame, px.
        behind: Depth that all of it is beyond, mm.

    Returns:
        Colour ``[3, size, size]`` and depth ``[size, size]`` mm, float32.
    """
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    tilt = rng.normal(0, 1, 2).astype(np.float32)
    slope = (tilt[0] * ramp)[None, :] + (tilt[1] * ramp)[:, None]
    first, second, contrast = _colour(rng), _colour(rng), rng.uniform(0.2, 1.2)
    share = np.clip(0.5 + slope[:: size // 16, :: size // 16] * contrast, 0, 1)[..., None]
    small = Image.fromarray((255 * (first + share * (second - first))).astype(np.uint8))
    canvas = small.resize((size, size), Image.Resampling.BICUBIC)
    wall = behind + rng.uniform(150, 2600)
    depth = np.maximum(np.float32(wall) + slope * np.float32(rng.uniform(0, 500)), np.float32(behind + 20))
    distance = Image.fromarray(depth)
    pen, ruler = ImageDraw.Draw(canvas), ImageDraw.Draw(distance)
    for z in sorted(rng.uniform(behind + 15, wall, int(rng.choice([0, 2, 5, 10, 18]))), reverse=True):
        centre, radius = rng.uniform(0, size, 2), size * rng.uniform(0.03, 0.35)
        fill, kind = _byte(_colour(rng)), rng.random()
        if kind < 0.35:
            shape = _blob(rng, centre, radius)
            pen.polygon(shape, fill=fill)
            ruler.polygon(shape, fill=float(z))
        elif kind < 0.6:
            box = (*(centre - radius * rng.uniform(0.3, 1, 2)), *(centre + radius * rng.uniform(0.3, 1, 2)))
            shape_name = "ellipse" if kind < 0.5 else "rectangle"
            getattr(pen, shape_name)(box, fill=fill)
            getattr(ruler, shape_name)(box, fill=float(z))
        else:
            ends = [(float(x), float(y)) for x, y in rng.uniform(-0.2 * size, 1.2 * size, (2, 2))]
            width = int(rng.integers(1, max(2, size // 8)))
            pen.line(ends, fill=fill, width=width)
            ruler.line(ends, fill=float(z), width=width)
    blur = int(rng.choice([1, 2, 4, 8], p=[0.35, 0.3, 0.2, 0.15]))
    if blur > 1:
        canvas = canvas.reduce(blur).resize((size, size), Image.Resampling.BICUBIC)
    image = np.ascontiguousarray(np.asarray(canvas).transpose(2, 0, 1)).astype(np.float32)
    image *= np.float32(1 / 255)
    if rng.random() < 0.85:
        start, count = int(rng.choice([2, 4, 8, 24])), int(rng.integers(1, 5))
        grain = _octaves(rng, size, start, count)
        tint = rng.normal(1, 0.25, 3) * rng.uniform(0.01, 0.14)
        for channel, strength in zip(image, tint, strict=True):
            channel += grain * np.float32(strength)
    return image, np.asarray(distance).copy()


def paint_occluder(rng: np.random.Generator, size: int, centre: Array, reach: float) -> tuple[Array, Array] | None:
    """Paint something that hides part of a hand.

    Args:
        rng: Source of randomness.
        size: Side of the frame, px.
        centre: ``[2]`` of the hand, px.
        reach: Length of the hand, px.

    Returns:
        Colour ``[3, size, size]`` float32 and cover ``[size, size]`` bool; None if it lies outside the frame.
    """
    mask = Image.new("L", (size, size))
    pen = ImageDraw.Draw(mask)
    angle = rng.uniform(0, 2 * np.pi)
    out = np.array([np.cos(angle), np.sin(angle)])
    if rng.random() < 0.5:
        pen.polygon(_blob(rng, centre + out * reach * rng.uniform(0.3, 0.7), reach * rng.uniform(0.15, 0.4)), fill=255)
    else:
        along = np.array([-out[1], out[0]])
        middle = centre + out * reach * rng.uniform(0.0, 0.5)
        width = max(2, round(reach * rng.uniform(0.03, 0.18)))
        ends = [tuple(map(float, middle + along * s * size)) for s in (-1.5, 1.5)]
        pen.line(ends, fill=255, width=width)
    cover = np.asarray(mask) > 0
    if not cover.any():
        return None
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across, down = rng.normal(0, 0.5, 2).astype(np.float32)
    shade = 1 + across * ramp[None, :] + down * ramp[:, None]
    grain = _octaves(rng, size, int(rng.choice([4, 12])), 2) * np.float32(0.05)
    return _colour(rng).astype(np.float32)[:, None, None] * shade + grain, cover
