"""Sphere tracing in numpy: where camera rays meet a :class:`~cvhpe.synthetic.surface.Body`.

A body's distance is the soft minimum -w log(sum exp(-d_i / w)) of its capsules' distances. The frame is cut
into tiles of 8x8 pixels. For each body, a tile keeps the few capsules that its cone of rays can meet; one cone
marches all its rays to within reach of the surface, then cones of 2x2 pixels do, and only the last steps are
taken pixel by pixel. Pairs of body and tile are rows of one array, worked through in blocks that fit the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvhpe.synthetic.surface import Body

Array = np.ndarray

TILE, SUB = 8, 2
MAX_CAPSULES = 16  # capsules of a body that a tile keeps
_CONE_STEPS, _SUB_STEPS, _STEPS, _LATE_STEPS = 9, 4, 2, 4
_BLOCK = 96  # rows
_NEAR = 20.0  # mm from the camera; what is nearer is cut off
_F = np.float32


@dataclass(frozen=True)
class Hits:
    """N pixels that show a body, each body as if it were alone; camera frame, mm, float32.

    Attributes:
        body: ``[N]`` which body, sorted.
        pixel: ``[N]`` row * size + column.
        z: ``[N]`` depth along the optical axis.
        cover: ``[N]`` share of the pixel that is covered, in (0, 1].
        point: ``[3, N]``.
        normal: ``[3, N]`` unit vectors.
        capsule: ``[N]`` the nearest capsule of the body.
        along: ``[N]`` from that capsule's first end along its axis.
        back: ``[3, N]`` the dorsal direction, blended between capsules.
    """

    body: Array
    pixel: Array
    z: Array
    cover: Array
    point: Array
    normal: Array
    capsule: Array
    along: Array
    back: Array


class Camera:
    """Rays of a square frame.

    Args:
        focal: Focal length, px.
        centre: Principal point, px.
        size: Side of the frame, px, a multiple of :data:`TILE`.
    """

    def __init__(self, focal: float, centre: tuple[float, float], size: int) -> None:
        if size % TILE:
            raise ValueError(f"frame side {size}: a multiple of {TILE}")
        self.focal, self.centre, self.size = float(focal), centre, size
        grid = np.arange(size // TILE) * TILE
        self.corners = np.stack(np.meshgrid(grid, grid), 2).reshape(-1, 2)

    def rays(self, tiles: Array, step: int) -> Array:
        """Unit rays through the middles of squares of tiles.

        Args:
            tiles: ``[T]`` which tiles.
            step: Side of the squares, px.

        Returns:
            ``[T, 3, (TILE / step)**2]``.
        """
        inside = np.arange(0, TILE, step) + (step - 1) / 2
        n = len(inside)
        rays = np.empty((len(tiles), 3, n * n), _F)
        rays[:, 0] = self.corners[tiles, 0, None] + (np.tile(inside, n) - self.centre[0])
        rays[:, 1] = self.corners[tiles, 1, None] + (np.repeat(inside, n) - self.centre[1])
        rays[:, 2] = self.focal
        return rays / np.sqrt(np.einsum("tcp,tcp->tp", rays, rays))[:, None]

    def pixels(self, tile: Array, place: Array) -> Array:
        """Pixel numbers of places in tiles.

        Args:
            tile: ``[N]`` which tiles.
            place: ``[N]`` row * TILE + column in the tile.

        Returns:
            ``[N]`` row * size + column in the frame.
        """
        corner = self.corners[tile]
        return (corner[:, 1] + place // TILE) * self.size + corner[:, 0] + place % TILE


class _Capsules:
    """The capsules of all bodies in one list, with the derived values that the field needs."""

    def __init__(self, bodies: Sequence[Body]) -> None:
        self.a, self.b, self.ra, self.rb, self.back = (
            np.concatenate([getattr(body, name) for body in bodies]) for name in ("a", "b", "ra", "rb", "back")
        )
        self.axis = self.b - self.a
        self.length2 = np.maximum(np.einsum("kc,kc->k", self.axis, self.axis), _F(1e-6))
        self.start = np.einsum("kc,kc->k", self.a, self.axis) / self.length2
        self.a2 = np.einsum("kc,kc->k", self.a, self.a)
        self.dr = self.rb - self.ra
        counts = [len(body.a) for body in bodies]
        self.body = np.repeat(np.arange(len(bodies)), counts)
        self.first = np.cumsum([0, *counts])[:-1]
        self.blend = np.array([body.blend for body in bodies], _F)
        # Least and largest distance from the camera at which each can be met.
        share = np.clip(-self.start, 0, 1)[:, None]
        radius = np.maximum(self.ra, self.rb) + 2 * self.blend[self.body]
        self.nearest = np.maximum(np.linalg.norm(self.a + share * self.axis, axis=1) - radius, 1)
        self.farthest = np.maximum(np.linalg.norm(self.a, axis=1), np.linalg.norm(self.b, axis=1)) + radius


def _cull(all_: _Capsules, camera: Camera) -> tuple[Array, Array, Array]:
    """Rows: body ``[R]``, tile ``[R]``, and the body's capsules there ``[R, MAX_CAPSULES]`` (-1: none)."""
    a, b = all_.a.copy(), all_.b.copy()
    for p, q in ((a, b), (b, a)):
        behind = (p[:, 2] < _NEAR) & (q[:, 2] > _NEAR)
        share = ((_NEAR - p[:, 2]) / np.where(behind, q[:, 2] - p[:, 2], 1))[:, None]
        p[behind] = (p + share * (q - p))[behind]
    in_front = (a[:, 2] > _NEAR - 0.1) & (b[:, 2] > _NEAR - 0.1)
    za, zb = np.maximum(a[:, 2], _NEAR), np.maximum(b[:, 2], _NEAR)
    focal, (cx, cy) = camera.focal, camera.centre
    ax, ay, bx, by = (
        p / z * focal + c for p, z, c in ((a[:, 0], za, cx), (a[:, 1], za, cy), (b[:, 0], zb, cx), (b[:, 1], zb, cy))
    )
    grow = 2.2 * all_.blend[all_.body]
    pa, pb = ((r + grow) / np.maximum(z - r, _NEAR) * focal for r, z in ((all_.ra, za), (all_.rb, zb)))
    reach = np.maximum(pa, pb) + TILE * 0.7072
    ux, uy = bx - ax, by - ay
    length2 = np.maximum(ux * ux + uy * uy, 1e-6)
    if not in_front.any():
        return np.empty(0, int), np.empty(0, int), np.empty((0, MAX_CAPSULES), int)
    # Only tiles inside the box of everything.
    n = camera.size // TILE
    low_x, low_y = ((np.where(in_front, np.minimum(p, q) - reach, np.inf)).min() for p, q in ((ax, bx), (ay, by)))
    high_x, high_y = ((np.where(in_front, np.maximum(p, q) + reach, -np.inf)).max() for p, q in ((ax, bx), (ay, by)))
    columns = np.arange(max(0, int(max(low_x, 0) // TILE)), min(n, int(min(high_x, camera.size) // TILE) + 1))
    rows = np.arange(max(0, int(max(low_y, 0) // TILE)), min(n, int(min(high_y, camera.size) // TILE) + 1))
    if not len(columns) or not len(rows):
        return np.empty(0, int), np.empty(0, int), np.empty((0, MAX_CAPSULES), int)
    tiles = (rows[:, None] * n + columns).reshape(-1)
    x, y = (camera.corners[tiles].T + (TILE - 1) / 2).astype(_F)
    floats = (v.astype(_F)[:, None] for v in (ax, ay, ux, uy, length2, np.where(in_front, reach, -np.inf)))
    ax_, ay_, ux_, uy_, length2_, reach_ = floats
    dx, dy = x - ax_, y - ay_
    share = np.clip((dx * ux_ + dy * uy_) / length2_, 0, 1)
    dx -= share * ux_
    dy -= share * uy_
    gap = np.sqrt(dx * dx + dy * dy) - reach_
    out: list[tuple[Array, Array, Array]] = []
    for body, first in enumerate(all_.first):
        of = gap[first : first + int((all_.body == body).sum())]
        inside = np.flatnonzero((of < 0).any(0))
        of = of[:, inside]
        order = np.argsort(of, axis=0)[:MAX_CAPSULES]
        pick = np.full((len(inside), MAX_CAPSULES), -1)
        pick[:, : len(order)] = np.where(np.take_along_axis(of, order, 0) < 0, order + first, -1).T
        out.append((np.full(len(inside), body), tiles[inside], pick))
    bodies, where, capsules = (np.concatenate(column) for column in zip(*out, strict=True))
    return bodies, where, capsules


class _Field:
    """Distances along rays ``[R, 3, P]`` to the body of each row, with its own capsules ``[R, M]``.

    Rays start at the camera, so that a point is its depth times a direction and every dot product but the
    final distance is worked out once per ray. The pixels are the last axis, to keep numpy's inner loops long.
    """

    def __init__(self, all_: _Capsules, width: Array, capsules: Array, rays: Array) -> None:
        pick = np.maximum(capsules, 0)
        self._keep(all_, pick[..., None], capsules[..., None] < 0)
        self.all, self.pick, self.rays, self.width = all_, pick, rays, width[:, None]
        self.rise = (all_.axis / all_.length2[:, None])[pick] @ rays
        self.twice_a = (2 * all_.a)[pick] @ rays

    def _keep(self, all_: _Capsules, pick: Array, none: Array) -> None:
        self.length2, self.start, self.a2, self.dr = (v[pick] for v in (all_.length2, all_.start, all_.a2, all_.dr))
        self.ra = np.where(none, _F(-1e4), all_.ra[pick])

    @classmethod
    def of_cones(cls, all_: _Capsules, width: Array, capsules: Array, rays: Array) -> _Field:
        """The field of one ray ``[R, 3]`` a row, transposed so that the rows are the pixels of a single one."""
        field = cls.__new__(cls)
        pick = np.maximum(capsules, 0).T
        field._keep(all_, pick[None], capsules.T[None] < 0)
        field.width = width[None]
        x, y, z = np.ascontiguousarray(rays.T)
        along = all_.axis / all_.length2[:, None]
        field.rise, field.twice_a = (
            (v[:, 0][pick] * x + v[:, 1][pick] * y + v[:, 2][pick] * z)[None] for v in (along, 2 * all_.a)
        )
        return field

    def _parts(self, t: Array) -> tuple[Array, Array, Array]:
        """Share along the axis (not clipped and clipped), and distance to the axis, each ``[R, M, P]``."""
        t = t[:, None]
        s = self.rise * t
        s -= self.start
        h = np.minimum(s, 1)
        np.maximum(h, 0, out=h)
        # |p - a - h axis|^2 = |p - a|^2 + |axis|^2 h (h - 2 s)
        d = t - self.twice_a
        d *= t
        d += self.a2
        u = -2 * s
        u += h
        u *= h
        u *= self.length2
        d += u
        np.maximum(d, 1e-6, out=d)
        return s, h, np.sqrt(d, out=d)

    def distance(self, t: Array) -> Array:
        """The blended distance ``[R, P]`` at depth ``t`` ``[R, P]`` along the rays."""
        _, h, d = self._parts(t)
        d -= self.ra
        h *= self.dr
        d -= h
        least = d.min(1)
        d -= least[:, None]
        d *= (-1 / self.width)[:, None]
        np.exp(d, out=d)
        return least - self.width * np.log(d.sum(1))

    def normals(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """Unit normals ``[R, 3, P]``, dorsal directions ``[R, 3, P]``, nearest capsule and mm along it ``[R, P]``."""
        s, h, r = self._parts(t)
        d = r - self.ra
        d -= h * self.dr
        first = d.argmin(1)[:, None]
        d -= np.take_along_axis(d, first, 1)
        d *= (-1 / self.width)[:, None]
        weight = np.exp(d, out=d)
        back = self.all.back[self.pick].transpose(0, 2, 1) @ weight
        back /= np.sqrt(np.maximum(np.einsum("rcp,rcp->rp", back, back), 1e-12))[:, None]
        weight /= r
        # sum of weight * (t ray - a - h axis)
        normal = self.rays * (t * weight.sum(1))[:, None]
        normal -= self.all.a[self.pick].transpose(0, 2, 1) @ weight
        weight *= h
        normal -= self.all.axis[self.pick].transpose(0, 2, 1) @ weight
        normal /= np.sqrt(np.maximum(np.einsum("rcp,rcp->rp", normal, normal), 1e-12))[:, None]
        capsule = np.take_along_axis(self.pick, first[:, 0], 1)
        along = np.take_along_axis(s, first, 1)[:, 0] * np.sqrt(self.all.length2[capsule])
        return normal, back, capsule, along


def _march(field: _Field, t: Array, farthest: Array, wide: np.float32, steps: int) -> tuple[Array, Array]:
    """March cones of half angle ``wide`` until the surface is within reach: depth, and which may hit it."""
    go = field.distance(t) - wide * t
    step = np.maximum(go, 0)
    slope: Array = np.ones_like(go)
    for _ in range(steps):
        t = t + step
        new = field.distance(t) - wide * t
        # A surface met aslant comes nearer by less than the step: the last step says by how much less.
        slope = (go - new) / np.maximum(step, _F(1e-3))
        go = new
        step = np.where(t < farthest, np.maximum(new, 0) / np.minimum(np.maximum(slope, _F(0.3)), 1), 0)
    return t, (t < farthest) & ((go < 3 * wide * t + 3) | (slope > 0.04))


def _approach(
    field: _Field, t: Array, farthest: Array, near: Array, steps: int, flattest: float
) -> tuple[Array, Array, Array]:
    """March single rays onto the surface.

    Returns the depth of the closest approach, the distance there, and whether a ray is still further than ``near`` mm
    from the surface.
    """
    d = field.distance(t)
    best, best_t, step = d, t, d
    slope = np.ones_like(d)
    for _ in range(steps):
        t = t + step
        new = field.distance(t)
        slope = (d - new) / np.where(np.abs(step) < 1e-3, 1, step)
        d, step = new, new / np.minimum(np.maximum(slope, _F(flattest)), 1)
        closer = np.abs(d) < np.abs(best)
        best, best_t = np.where(closer, d, best), np.where(closer, t, best_t)
    return best_t, best, (d > near) & (slope > 0.02) & (t < farthest)


def trace(bodies: Sequence[Body], camera: Camera) -> Hits:
    """Trace a frame.

    Args:
        bodies: The scene.
        camera: The rays.

    Returns:
        The pixels that show each body.
    """
    all_ = _Capsules(bodies)
    body, tiles, capsules = _cull(all_, camera)
    none = capsules < 0
    near = np.where(none, np.inf, all_.nearest[capsules]).min(1).astype(_F)
    far = np.where(none, -np.inf, all_.farthest[capsules]).max(1).astype(_F)
    width = all_.blend[body]
    t, may_hit = near, np.zeros(len(tiles), bool)
    if len(tiles):
        cones = _Field.of_cones(all_, width, capsules, camera.rays(tiles, TILE)[..., 0])
        wide = _F(0.72 * TILE / camera.focal)
        (t,), (may_hit,) = _march(cones, near[None], far[None], wide, _CONE_STEPS)
    t, far = t[:, None], far[:, None]
    # Rows with as many capsules come together, so that a block carries no idle ones.
    left = np.flatnonzero(may_hit)
    left = left[np.argsort((~none[left]).sum(1), kind="stable")]
    blocks = [left[at : at + _BLOCK] for at in range(0, len(left), _BLOCK)]
    results = []
    for rows in blocks:
        most = int((~none[rows]).sum(1).max())
        part = _block(all_, camera, tiles[rows], width[rows], capsules[rows, :most], t[rows], far[rows])
        if part is not None:
            results.append((body[rows][part[0]], *part[1:]))
    if not results:
        empty, vectors = np.empty(0, _F), np.empty((3, 0), _F)
        index = np.empty(0, np.int64)
        return Hits(index, index, empty, empty, vectors, vectors, index, empty, vectors)
    body_of, *rest = (np.concatenate(column, -1) for column in zip(*results, strict=True))
    order = np.argsort(body_of, kind="stable")
    body_of = body_of[order]
    pixel, cover, point, normal, capsule, along, back = (v[..., order] for v in rest)
    return Hits(body_of, pixel, point[2], cover, point, normal, capsule - all_.first[body_of], along, back)


def _block(
    all_: _Capsules, camera: Camera, tiles: Array, width: Array, capsules: Array, t: Array, far: Array
) -> tuple[Array, ...] | None:
    """The pixels that hit in some rows: the row, and the fields of Hits but for z."""
    n = TILE // SUB
    wide = _F(0.72 * SUB / camera.focal)
    t = np.repeat(t, n * n, 1)
    t, may_hit = _march(_Field(all_, width, capsules, camera.rays(tiles, SUB)), t, far, wide, _SUB_STEPS)
    some = may_hit.any(1)
    if not some.any():
        return None
    row = np.flatnonzero(some)
    tiles, width, capsules, t, may_hit = (v[row] for v in (tiles, width, capsules, t, may_hit))
    cones, pixels = (len(row), n, 1, n, 1), (len(row), n, SUB, n, SUB)
    t, may_hit = (np.broadcast_to(x.reshape(cones), pixels).reshape(len(row), TILE * TILE) for x in (t, may_hit))
    rays = camera.rays(tiles, 1)
    field = _Field(all_, width, capsules, rays)
    pixel_mm = t * _F(1 / camera.focal)
    best_t, best, more = _approach(field, t, far[row], 0.3 * pixel_mm, _STEPS, 0.2)
    late = np.flatnonzero((more & may_hit).sum(1) > 1)
    if len(late):
        # Surfaces that fall away from the camera take longer to reach.
        again = _Field(all_, width[late], capsules[late], rays[late])
        start, near = best_t[late], 0.3 * pixel_mm[late]
        best_t[late], best[late], _ = _approach(again, start, far[row][late], near, _LATE_STEPS, 0.06)
    cover = np.minimum(np.maximum(1.1 - best * (_F(camera.focal) / best_t), 0), 1) * may_hit
    normal, back, capsule, along = field.normals(best_t)
    at, place = np.nonzero(cover > 0.05)
    flat = at * TILE * TILE + place
    normal, back, rays = (v.transpose(1, 0, 2).reshape(3, -1)[:, flat] for v in (normal, back, rays))
    point = rays * best_t[at, place]
    pixel = camera.pixels(tiles[at], place)
    return row[at], pixel, cover[at, place], point, normal, capsule[at, place], along[at, place], back
