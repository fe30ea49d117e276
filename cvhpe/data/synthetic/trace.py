"""Finds where camera rays meet a :class:`~cvhpe.data.synthetic.surface.Body`: sphere tracing in numpy.

A body's distance is the soft minimum -w log(sum exp(-d_i / w)) of its capsules' distances. The frame is cut
into tiles of 8x8 pixels. A tile keeps the few capsules that its cone of rays can meet, one cone marches all
its rays to within reach of the surface, and only then do pixels march on their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvhpe.data.synthetic.surface import Body

Array = np.ndarray

TILE = 8
MOST = 10  # capsules that one tile may see
_CONE_STEPS, _SUB_STEPS, _STEPS = 12, 5, 2
SUB = 2
_F = np.float32


@dataclass(frozen=True)
class Hits:
    """N pixels in which a body is seen.

    pixel: ``[N]`` row * size + column. t: ``[N]`` mm along the ray. cover: ``[N]`` in (0, 1], share of the
    pixel that is covered. rays: ``[N, 3]`` unit. capsules: ``[N, M]`` that may matter there, -1 for none.
    """

    pixel: Array
    t: Array
    cover: Array
    rays: Array
    capsules: Array


class Camera:
    """Rays of a square frame of ``size`` px (a multiple of the tile), with a focal length in px."""

    def __init__(self, focal: float, centre: tuple[float, float], size: int) -> None:
        if size % TILE:
            raise ValueError(f"frame side {size}: a multiple of {TILE}")
        self.focal, self.centre, self.size = float(focal), centre, size
        n = size // TILE
        self.tiles = np.arange(n * n)
        grid = np.arange(n) * TILE
        self.corners = np.stack(np.meshgrid(grid, grid), 2).reshape(-1, 2).astype(_F)
        self.middles = self.corners + _F((TILE - 1) / 2)

    def rays(self, tiles: Array, step: int) -> Array:
        """Unit rays ``[T, 3, (TILE / step)**2]`` through the middles of squares of ``step`` px of the tiles."""
        inside = np.arange(0, TILE, step) + (step - 1) / 2
        x = self.corners[tiles, 0, None] + np.tile(inside, len(inside)) - self.centre[0]
        y = self.corners[tiles, 1, None] + np.repeat(inside, len(inside)) - self.centre[1]
        rays = np.stack([x, y, np.full_like(x, self.focal)], 1).astype(_F)
        return rays / np.sqrt((rays * rays).sum(1, keepdims=True))

    def pixels(self, tile: Array, place: Array) -> Array:
        """Pixel numbers (row * size + column) of places in tiles."""
        corner = self.corners[tile].astype(np.int64)
        return (corner[:, 1] + place // TILE) * self.size + corner[:, 0] + place % TILE


def _cull(body: Body, camera: Camera) -> tuple[Array, Array]:
    """Tiles that a body may be seen in ``[T]``, and the capsules each of them may see ``[T, M]`` (-1: none)."""
    # What reaches behind the camera is cut off there.
    near = 20.0
    a, b = body.a.copy(), body.b.copy()
    for p, q in ((a, b), (b, a)):
        behind = (p[:, 2] < near) & (q[:, 2] > near)
        share = ((near - p[:, 2]) / np.where(behind, q[:, 2] - p[:, 2], 1))[:, None]
        p[behind] = (p + share * (q - p))[behind]
    seen = (a[:, 2] >= near) & (b[:, 2] >= near)
    if not seen.any():
        return np.empty(0, int), np.empty((0, 0), int)
    za, zb = np.maximum(a[:, 2], near), np.maximum(b[:, 2], near)
    grow = 1.5 * body.blend
    ua = a[:, :2] / za[:, None] * camera.focal + np.array(camera.centre, _F)
    ub = b[:, :2] / zb[:, None] * camera.focal + np.array(camera.centre, _F)
    pa, pb = ((r + grow) / np.maximum(z - r, near) * camera.focal for r, z in ((body.ra, za), (body.rb, zb)))
    axis = ub - ua
    off = camera.middles[:, None] - ua
    share = np.clip((off * axis).sum(2) / np.maximum((axis * axis).sum(1), 1e-6), 0, 1)
    gap = np.sqrt(((off - share[..., None] * axis) ** 2).sum(2)) - np.maximum(pa, pb)
    gap = np.where(seen, gap, np.inf)
    reach = TILE * 0.7072
    tiles = np.flatnonzero((gap < reach).any(1))
    gap = gap[tiles]
    most = min(MOST, int((gap < reach).sum(1).max(initial=0)))
    order = np.argsort(gap, axis=1)[:, :most]
    return tiles, np.where(np.take_along_axis(gap, order, 1) < reach, order, -1)


class _Field:
    """The body's distance along rays ``[T, 3, P]``, each tile with its own capsules ``[T, M]``.

    Rays start at the camera, so that a point is its depth times a direction and every dot product but the
    final distance is worked out once per ray. The pixels are the last axis, to keep numpy's inner loops long.
    """

    def __init__(self, body: Body, capsules: Array, rays: Array) -> None:
        axis = body.b - body.a
        length2 = np.maximum((axis * axis).sum(1), 1e-6).astype(_F)
        pick = np.maximum(capsules, 0)
        self.width = _F(body.blend)
        self.length2 = length2[pick][..., None]
        self.start = ((body.a * axis).sum(1) / length2)[pick][..., None]
        self.a2 = (body.a * body.a).sum(1)[pick][..., None]
        self.ra = np.where(capsules < 0, _F(-1e4), body.ra[pick])[..., None]
        self.dr = (body.rb - body.ra)[pick][..., None]
        self.rise = (axis / length2[:, None])[pick] @ rays
        self.toward2 = (2 * body.a)[pick] @ rays

    def distance(self, t: Array) -> Array:
        """The blended distance ``[T, P]`` at depth ``t`` ``[T, P]`` along the rays."""
        t = t[:, None]
        s = self.rise * t
        s -= self.start
        h = np.clip(s, 0, 1)
        d = t - self.toward2
        d *= t
        d += self.a2
        # |p - a - h axis|^2 = |p - a|^2 + |axis|^2 h (h - 2 s)
        s *= -2
        s += h
        s *= h
        s *= self.length2
        d += s
        np.maximum(d, 0, out=d)
        np.sqrt(d, out=d)
        d -= self.ra
        h *= self.dr
        d -= h
        least = d.min(1)
        d -= least[:, None]
        d *= -1 / self.width
        np.exp(d, out=d)
        return least - self.width * np.log(d.sum(1))


def _march(field: _Field, t: Array, farthest: Array, wide: np.float32, steps: int) -> tuple[Array, Array]:
    """March cones of half angle ``wide`` until the surface is within reach: depth, and which may hit it."""
    go = field.distance(t) - wide * t
    step = np.maximum(go, 0)
    for _ in range(steps):
        t = t + step
        new = field.distance(t) - wide * t
        # A surface met aslant comes nearer by less than the step: the last step says by how much less.
        slope = np.clip((go - new) / np.where(step < 1e-3, 1, step), 0.3, 1)
        go = new
        step = np.where(t < farthest, np.maximum(new, 0) / slope, 0)
    return t, (t < farthest) & (go < 3 * wide * t + 3)


def trace(body: Body, camera: Camera) -> Hits | None:
    """Where the frame's rays meet the body; None where none does."""
    tiles, capsules = _cull(body, camera)
    if not len(tiles):
        return None
    near, far = _reach(body)
    near = np.where(capsules < 0, np.inf, near[capsules]).min(1)[:, None]
    far = np.where(capsules < 0, -np.inf, far[capsules]).max(1)[:, None]
    # One cone a tile, then one for every SUB x SUB pixels.
    t = np.maximum(near, 1).astype(_F)
    t, hope = _march(
        _Field(body, capsules, camera.rays(tiles, TILE)), t, far, _F(0.72 * TILE / camera.focal), _CONE_STEPS
    )
    hope = hope[:, 0]
    tiles, capsules, t, far = tiles[hope], capsules[hope], t[hope], far[hope]
    if not len(tiles):
        return None
    n = TILE // SUB
    t = np.repeat(t, n * n, 1)
    t, hope = _march(_Field(body, capsules, camera.rays(tiles, SUB)), t, far, _F(0.72 * SUB / camera.focal), _SUB_STEPS)
    some = hope.any(1)
    tiles, capsules, t, hope = tiles[some], capsules[some], t[some], hope[some]
    if not len(tiles):
        return None
    spread = (len(tiles), n, 1, n, 1), (len(tiles), n, SUB, n, SUB), (len(tiles), TILE * TILE)
    t, hope = (np.broadcast_to(x.reshape(spread[0]), spread[1]).reshape(spread[2]) for x in (t, hope))
    rays = camera.rays(tiles, 1)
    field = _Field(body, capsules, rays)
    d = field.distance(t)
    best, best_t, step = d, t, d
    for _ in range(_STEPS):
        # The slope of the last step says how aslant the ray meets the surface.
        t = t + step
        new = field.distance(t)
        slope = np.clip((d - new) / np.where(np.abs(step) < 1e-3, 1, step), 0.2, 1)
        d, step = new, new / slope
        closer = np.abs(d) < np.abs(best)
        best, best_t = np.where(closer, d, best), np.where(closer, t, best_t)
    cover = np.clip(1.25 - best * (_F(camera.focal) / best_t), 0, 1) * hope
    tile, place = np.nonzero(cover > 0.05)
    if not len(tile):
        return None
    pixel = camera.pixels(tiles[tile], place)
    return Hits(pixel, best_t[tile, place], cover[tile, place], rays[tile, :, place], capsules[tile])


def _reach(body: Body) -> tuple[Array, Array]:
    """Least and largest distance ``[K]`` from the camera at which each capsule can be met."""
    axis = body.b - body.a
    share = np.clip(-(body.a * axis).sum(1) / np.maximum((axis * axis).sum(1), 1e-6), 0, 1)
    closest = np.linalg.norm(body.a + share[:, None] * axis, axis=1)
    far = np.maximum(np.linalg.norm(body.a, axis=1), np.linalg.norm(body.b, axis=1))
    radius = np.maximum(body.ra, body.rb) + 2 * body.blend
    return closest - radius, far + radius


def finish(body: Body, capsules: Array, rays: Array, t: Array) -> tuple[Array, Array, Array, Array]:
    """Points, normals, nearest capsule and position along it of pixels at depth ``t`` along their rays.

    capsules: ``[N, M]``, -1 for none. rays: ``[N, 3]``.
    """
    point = rays * t[:, None]
    axis = body.b - body.a
    length2 = np.maximum((axis * axis).sum(1), 1e-6).astype(_F)
    x, y, z = np.ascontiguousarray(point.T)
    shape = (capsules.shape[1], len(t))
    d, s = np.empty(shape, _F), np.empty(shape, _F)
    q = np.empty((3, *shape), _F)
    slope = body.rb - body.ra
    for m in range(shape[0]):
        pick = np.maximum(capsules[:, m], 0)
        ax, ay, az = axis.T[:, pick]
        px, py, pz = (c - o for c, o in zip((x, y, z), body.a.T[:, pick], strict=True))
        s[m] = (px * ax + py * ay + pz * az) / length2[pick]
        h = np.clip(s[m], 0, 1)
        q[0, m], q[1, m], q[2, m] = px - h * ax, py - h * ay, pz - h * az
        r = np.sqrt(q[0, m] ** 2 + q[1, m] ** 2 + q[2, m] ** 2)
        q[:, m] /= np.maximum(r, 1e-3)
        d[m] = np.where(capsules[:, m] < 0, _F(1e4), r - body.ra[pick] - h * slope[pick])
    first = d.argmin(0)
    rows = np.arange(len(t))
    d -= d[first, rows]
    d *= -1 / _F(body.blend)
    np.exp(d, out=d)
    normal = (q * d).sum(1).T
    normal = normal / np.maximum(np.sqrt((normal * normal).sum(1, keepdims=True)), 1e-6)
    capsule = np.maximum(capsules, 0)[rows, first]
    return point, normal, capsule, s[first, rows] * np.sqrt(length2)[capsule]
