"""``warp_image``: crop, turn, flip, resize and normalise a batch of pictures in one pass.

The kernels of ``csrc`` and the pure-torch twin below compute the same float32 source coordinates
(rounded once per operation), so that both read the same pixels and find the same holes.

For output pixel ``(i, j)`` of a ``w x h`` picture, per axis:

* fraction of the crop ``q = (i - (w - 1) / 2) / w``;
* fraction of the stored picture ``p = F^-1 R(angle)^-1 (q - shift) / (scale * margin)``;
* source pixel ``x = p * W + (W - 1) / 2``.

Fractions are of the width in x and of the height in y. The crop is a square of the scene whatever the
sizes are: a picture that is not square has pixels that are not square, a turn stays a turn of the scene,
and :func:`cvhpe.ops.warp_joints` agrees for every size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cvhpe.modality import View

Mode = Literal["bilinear", "nearest_hole"]
Layout = Literal["NHWC", "NCHW"]

MODES = ("bilinear", "nearest_hole")
SOURCES = (torch.uint8, torch.uint16, torch.float32, torch.float64, torch.bfloat16, torch.float16)
TARGETS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def warp_image(
    src: Tensor,
    view: View,
    size: int | tuple[int, int],
    *,
    mean: float = 0.0,
    scale: float = 1.0,
    mode: Mode = "bilinear",
    fill: float = 0.0,
    layout: Layout = "NHWC",
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
    out: Tensor | None = None,
) -> Tensor:
    """See stored pictures under a view: ``[B, C, h, w]`` with ``(value - mean) * scale``.

    src: uint8, uint16 or floating point; ``[B, H, W, C]`` (``layout="NHWC"``), ``[B, C, H, W]``
        (``"NCHW"``) or ``[B, H, W]``, one channel. Pixel-packed and planar memory are read as they
        are, other strides are copied first.
    view: as many views as pictures; ``view.margin`` says how much wider than the crop ``src`` is.
    size: output ``(h, w)`` in pixels, or one number for both.
    mean, scale: the normalisation, in the source's units.
    mode: ``"bilinear"`` blends the four neighbours. ``"nearest_hole"`` is for depth, where 0 is a hole:
        the pixel is a hole where the holes' bilinear weight is more than half, else the heaviest of the
        neighbours that are no holes; values never mix, so that no surface appears between a hand and
        what is behind it.
    fill: the value, in the source's units, of everything outside the picture; a border pixel blends
        with it. In ``"nearest_hole"`` a fill of 0 is a hole.
    channels_last: the output's memory format.
    dtype: float32, bfloat16, float16 or float64; arithmetic is float32 (float64 for a float64 source).
    out: a buffer to write, of the output's shape, dtype, device and memory format: reusing one spares
        the page faults of a fresh batch, which cost as much as the warp.

    The gradient reaches a floating-point ``src`` (not the view, and not through ``out``). A view that
    shrinks the picture more than twofold aliases, as any four-pixel blend does. A view that is not finite
    gives NaN.

    Raises ValueError or TypeError, naming the argument, for shapes, dtypes and devices that do not fit.

    >>> picture = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    >>> seen = warp_image(picture, View.identity(1), 2, mean=1, scale=2)
    >>> seen.shape, seen[0, :, 0, 0].tolist()
    (torch.Size([1, 3, 2, 2]), [-2.0, 0.0, 2.0])
    """
    pictures = _pictures(src, layout)
    h, w = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    _check(pictures, view, h, w, mode, dtype)
    packed = view.packed.to(torch.float32)
    if packed.requires_grad:
        raise ValueError("view: requires grad, but warp_image has no gradient in the view; detach it")
    margin = float(view.margin)
    if out is not None:
        _check_out(out, pictures, h, w, channels_last, dtype)
        out.copy_(_twin(pictures, packed, margin, h, w, mean, scale, mode, fill, channels_last, dtype))
        return out
    return _twin(pictures, packed, margin, h, w, mean, scale, mode, fill, channels_last, dtype)


def warp_image_reference(
    src: Tensor,
    view: View,
    size: int | tuple[int, int],
    *,
    mean: float = 0.0,
    scale: float = 1.0,
    mode: Mode = "bilinear",
    fill: float = 0.0,
    layout: Layout = "NHWC",
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The pure-torch twin of :func:`warp_image`; serves where no kernel was built, and in the tests."""
    pictures = _pictures(src, layout)
    h, w = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    _check(pictures, view, h, w, mode, dtype)
    packed = view.packed.to(torch.float32)
    return _twin(pictures, packed, float(view.margin), h, w, mean, scale, mode, fill, channels_last, dtype)


def source_matrix(packed: Tensor, margin: float, size: tuple[int, int], source: tuple[int, int]) -> Tensor:
    """From centred output pixels to source pixels: ``[B, 2, 3]`` float32 of packed views ``[B, 5]``.

    Both sizes are ``(height, width)``. Computed in float64 and rounded once.

    >>> source_matrix(View.identity(1).packed, 1.0, (4, 4), (4, 4)).tolist()
    [[[1.0, 0.0, 1.5], [0.0, 1.0, 1.5]]]
    """
    (h, w), (height, width) = size, source
    angle, zoom, tx, ty, flip = packed.double().unbind(1)
    zoom = zoom * margin
    c, s = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    f = torch.where(flip > 0.5, -1.0, 1.0).to(c)
    row_x = [f * c * (width / w), f * s * (width / h), (width - 1) / 2 - f * (c * tx + s * ty) * width]
    row_y = [(0.0 - s) * (height / w), c * (height / h), (height - 1) / 2 - (c * ty - s * tx) * height]
    return torch.stack([torch.stack(row_x, 1), torch.stack(row_y, 1)], 1).float()


def _coordinates(packed: Tensor, margin: float, h: int, w: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Source coordinates x and y of every output pixel, float32 ``[B, h, w]``.

    Each product is exact in float64 and each sum rounds to float32: what ``fmaf`` gives the kernels.
    """
    m = source_matrix(packed, margin, (h, w), (height, width)).double()[:, :, :, None, None]
    di = torch.arange(w, device=packed.device, dtype=torch.float64) - (w - 1) / 2
    dj = torch.arange(h, device=packed.device, dtype=torch.float64)[:, None] - (h - 1) / 2
    x, y = ((m[:, k, 0] * di + (m[:, k, 1] * dj + m[:, k, 2]).float().double()).float() for k in (0, 1))
    return x, y


def _neighbours(
    packed: Tensor, margin: float, h: int, w: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The left top neighbour of every output pixel, as its index ``[B, h, w]`` into a picture padded by
    two pixels on every side, and how far the pixel is from it in x and y, in [0, 1)."""
    x, y = _coordinates(packed, margin, h, w, height, width)
    x0, y0 = x.floor(), y.floor()
    # The bounds keep far coordinates and NaN away from the integers; all they reach is padding.
    column = x0.nan_to_num(-2.0).clamp(-2, width).long() + 2
    row = y0.nan_to_num(-2.0).clamp(-2, height).long() + 2
    return row * (width + 4) + column, x - x0, y - y0


def _twin(
    pictures: Tensor,
    packed: Tensor,
    margin: float,
    h: int,
    w: int,
    mean: float,
    scale: float,
    mode: str,
    fill: float,
    channels_last: bool,
    dtype: torch.dtype,
) -> Tensor:
    batch, channels, height, width = pictures.shape
    compute = torch.float64 if pictures.dtype == torch.float64 else torch.float32
    index, fx, fy = _neighbours(packed, margin, h, w, height, width)
    index, fx, fy = (t.view(batch, 1, h * w) for t in (index, fx, fy))
    padded = torch.nn.functional.pad(pictures.to(compute), (2, 2, 2, 2), value=fill).flatten(2)
    taps = [
        padded.gather(2, (index + step).expand(batch, channels, h * w)) for step in (0, 1, width + 4, width + 5)
    ]  # left top, right top, left bottom, right bottom
    value = _bilinear(taps, fx.to(compute), fy.to(compute)) if mode == "bilinear" else _nearest_hole(taps, fx, fy)
    seen = ((value - mean) * scale).to(dtype).view(batch, channels, h, w)
    return seen.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _bilinear(taps: list[Tensor], fx: Tensor, fy: Tensor) -> Tensor:
    top = taps[0] + (taps[1] - taps[0]) * fx
    bottom = taps[2] + (taps[3] - taps[2]) * fx
    return top + (bottom - top) * fy


def _nearest_hole(taps: list[Tensor], fx: Tensor, fy: Tensor) -> Tensor:
    gx, gy = 1 - fx, 1 - fy
    best = value = covered = torch.zeros_like(taps[0])
    for tap, weight in zip(taps, (gx * gy, fx * gy, gx * fy, fx * fy), strict=True):
        weight = torch.where(tap != 0, weight, 0.0)
        covered = covered + weight
        value = torch.where(weight > best, tap, value)
        best = torch.maximum(best, weight)
    value = torch.where(covered >= 0.5, value, torch.zeros_like(value))
    return torch.where(torch.isfinite(gx + gy), value, torch.full_like(value, torch.nan))


def _pictures(src: Tensor, layout: str) -> Tensor:
    """``src`` as ``[B, C, H, W]``, without touching memory."""
    if layout not in ("NHWC", "NCHW"):
        raise ValueError(f"layout: got {layout!r}, expected 'NHWC' or 'NCHW'")
    if src.dim() == 3:
        return src.unsqueeze(1)
    if src.dim() != 4:
        expected = "[B, H, W, C]" if layout == "NHWC" else "[B, C, H, W]"
        raise ValueError(f"src: got shape {list(src.shape)}, expected {expected} or [B, H, W]")
    return src.permute(0, 3, 1, 2) if layout == "NHWC" else src


def _check(pictures: Tensor, view: View, h: int, w: int, mode: str, dtype: torch.dtype) -> None:
    batch, _, height, width = pictures.shape
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}, expected one of {', '.join(MODES)}")
    if pictures.dtype not in SOURCES:
        raise TypeError(f"src: got {pictures.dtype}, expected one of {', '.join(map(str, SOURCES))}")
    if dtype not in TARGETS:
        raise TypeError(f"dtype: got {dtype}, expected one of {', '.join(map(str, TARGETS))}")
    if len(view) != batch:
        raise ValueError(f"view: got {len(view)} views, expected {batch}, one for each picture of src")
    if h < 1 or w < 1:
        raise ValueError(f"size: got ({h}, {w}), expected at least (1, 1)")
    if height < 1 or width < 1:
        raise ValueError(f"src: got pictures of {height} x {width} pixels, expected at least 1 x 1")
    if not view.margin > 0:
        raise ValueError(f"view: got margin {view.margin}, expected a number above 0")
    if view.angle.device != pictures.device:
        raise ValueError(f"view: got device {view.angle.device}, expected src's, {pictures.device}")


def _check_out(out: Tensor, pictures: Tensor, h: int, w: int, channels_last: bool, dtype: torch.dtype) -> None:
    expected = (pictures.shape[0], pictures.shape[1], h, w)
    if tuple(out.shape) != expected:
        raise ValueError(f"out: got shape {list(out.shape)}, expected {list(expected)}")
    if out.dtype != dtype or out.device != pictures.device:
        raise TypeError(f"out: got {out.dtype} on {out.device}, expected {dtype} on {pictures.device}")
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    if not out.is_contiguous(memory_format=memory_format):
        name = "channels-last" if channels_last else "contiguous"
        raise ValueError(f"out: got strides {list(out.stride())}, expected {name} memory")
    if torch.is_grad_enabled() and (pictures.requires_grad or out.requires_grad):
        raise ValueError("out: a buffer takes no gradient; leave it out, or detach src")
