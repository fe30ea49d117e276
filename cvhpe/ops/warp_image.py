"""``warp_image``: crop, turn, flip, resize and normalise a batch of pictures in one pass.

The kernels of ``csrc`` and the pure-torch twin below do the same float32 additions and multiplications in the same
order: they read the same pixels, find the same holes and give the same bits.

For output pixel ``(i, j)`` of a ``w x h`` picture, per axis:

* fraction of the crop ``q = (i - (w - 1) / 2) / w``;
* fraction of the stored picture ``p = F^-1 R(angle)^-1 (q - shift) / (scale * margin)``;
* source pixel ``x = p * W + (W - 1) / 2``.

Fractions are of the width in x and of the height in y. The crop is a square of the scene whatever the
sizes are: a picture that is not square has pixels that are not square, a turn stays a turn of the scene,
and :func:`cvhpe.ops.warp_joints` agrees for every size.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from cvhpe.ops import extension_loader
from cvhpe.plugin.contract import View

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
    pictures, packed, h, w = _arguments(src, view, size, layout, mode, dtype)
    margin, nearest = float(view.margin), mode == "nearest_hole"
    if out is not None:
        _check_out(out, pictures, h, w, channels_last, dtype)
    if not extension_loader.serves(pictures.device.type):
        seen = _twin(pictures, packed, margin, h, w, mean, scale, nearest, fill, channels_last, dtype)
        return seen if out is None else out.copy_(seen)
    if out is not None:
        torch.ops.cvhpe.warp_image_out(pictures, packed, margin, mean, scale, nearest, fill, out)
        return out
    return torch.ops.cvhpe.warp_image(pictures, packed, margin, h, w, mean, scale, nearest, fill, channels_last, dtype)


def warp_image_twin(
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
    """:func:`warp_image` in pure torch."""
    pictures, packed, h, w = _arguments(src, view, size, layout, mode, dtype)
    nearest = mode == "nearest_hole"
    return _twin(pictures, packed, float(view.margin), h, w, mean, scale, nearest, fill, channels_last, dtype)


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
    """Source coordinates x and y of every output pixel, ``[B, h, w]``, in the kernels' own float32 roundings."""
    m = source_matrix(packed, margin, (h, w), (height, width))[:, :, :, None, None]
    di = torch.arange(w, device=packed.device, dtype=torch.float32) - (w - 1) / 2
    dj = torch.arange(h, device=packed.device, dtype=torch.float32)[:, None] - (h - 1) / 2
    x, y = (m[:, k, 0] * di + (m[:, k, 1] * dj + m[:, k, 2]) for k in (0, 1))
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
    nearest: bool,
    fill: float,
    channels_last: bool,
    dtype: torch.dtype,
) -> Tensor:
    batch, channels, height, width = pictures.shape
    compute = torch.float64 if pictures.dtype == torch.float64 else torch.float32
    index, fx, fy = _neighbours(packed, margin, h, w, height, width)
    index, fx, fy = index.flatten(1)[:, None], fx.flatten(1)[:, None].to(compute), fy.flatten(1)[:, None].to(compute)
    padded = torch.nn.functional.pad(pictures.to(compute), (2, 2, 2, 2), value=fill).flatten(2)
    taps = [
        padded.gather(2, (index + step).expand(batch, channels, h * w)) for step in (0, 1, width + 4, width + 5)
    ]  # left top, right top, left bottom, right bottom
    value = _nearest_hole(taps, fx, fy) if nearest else _bilinear(taps, fx, fy)
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


def _arguments(
    src: Tensor, view: View, size: int | tuple[int, int], layout: str, mode: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor, int, int]:
    """The checked arguments as the operator takes them: ``[B, C, H, W]``, ``[B, 5]``, h, w; no memory is touched."""
    if layout not in ("NHWC", "NCHW"):
        raise ValueError(f"layout: got {layout!r}, expected 'NHWC' or 'NCHW'")
    if src.dim() not in (3, 4):
        expected = "[B, H, W, C]" if layout == "NHWC" else "[B, C, H, W]"
        raise ValueError(f"src: got shape {list(src.shape)}, expected {expected} or [B, H, W]")
    pictures = src.unsqueeze(1) if src.dim() == 3 else src.permute(0, 3, 1, 2) if layout == "NHWC" else src
    h, w = (size, size) if isinstance(size, int) else size
    _check(pictures, view, h, w, mode, dtype)
    packed = view.packed.to(torch.float32)
    if packed.requires_grad:
        raise ValueError("view: requires grad, but warp_image has no gradient in the view; detach it")
    return pictures, packed, h, w


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


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The transposed warp: every output pixel's gradient, shared out to the neighbours it was made of."""
    (packed, *rest), (margin, scale, nearest, fill), shape = ctx.saved_tensors, ctx.options, ctx.shape
    batch, channels, height, width = shape
    h, w = grad.shape[2:]
    index, fx, fy = _neighbours(packed, margin, h, w, height, width)
    wide = torch.float64 if ctx.dtype == torch.float64 else torch.float32
    index, fx, fy = index.flatten(1)[:, None], fx.flatten(1)[:, None].to(wide), fy.flatten(1)[:, None].to(wide)
    steps = (0, 1, width + 4, width + 5)
    indices = [(index + step).expand(batch, channels, h * w) for step in steps]
    weights = [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]
    if nearest:
        padded = torch.nn.functional.pad(rest[0].to(wide), (2, 2, 2, 2), value=fill).flatten(2)
        weights = _chosen([padded.gather(2, i) for i in indices], weights)
    share = (grad.to(wide) * scale).flatten(2)
    total = grad.new_zeros(batch, channels, (height + 4) * (width + 4), dtype=wide)
    for i, weight in zip(indices, weights, strict=True):
        total = total.scatter_add(2, i, share * weight)
    inner = total.view(batch, channels, height + 4, width + 4)[:, :, 2:-2, 2:-2]
    return inner.to(ctx.dtype), *(None,) * 10


def _chosen(taps: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """1 for the neighbour that ``_nearest_hole`` takes, 0 for the others."""
    seen = torch.stack([torch.where(tap != 0, weight, 0.0) for tap, weight in zip(taps, weights, strict=True)])
    kept = (seen.sum(0) >= 0.5).to(seen)
    return list(torch.nn.functional.one_hot(seen.argmax(0), 4).movedim(-1, 0).to(seen) * kept)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    src, packed, margin, _, _, _, scale, nearest, fill, _, _ = inputs
    ctx.save_for_backward(packed, *([src] if nearest else []))
    ctx.options, ctx.shape, ctx.dtype = (margin, scale, nearest, fill), src.shape, src.dtype


def _fake(
    src: Tensor,
    view: Tensor,
    margin: float,
    h: int,
    w: int,
    mean: float,
    scale: float,
    nearest_hole: bool,
    fill: float,
    channels_last: bool,
    dtype: torch.dtype,
) -> Tensor:
    batch, channels = src.shape[:2]
    if channels_last:
        return src.new_empty((batch, h, w, channels), dtype=dtype).permute(0, 3, 1, 2)
    return src.new_empty((batch, channels, h, w), dtype=dtype)


def _fake_out(
    src: Tensor,
    view: Tensor,
    margin: float,
    mean: float,
    scale: float,
    nearest_hole: bool,
    fill: float,
    out: Tensor,
) -> None:
    return None


if extension_loader.load().loaded:
    torch.library.register_fake("cvhpe::warp_image", _fake)
    torch.library.register_fake("cvhpe::warp_image_out", _fake_out)
    torch.library.register_autograd("cvhpe::warp_image", _backward, setup_context=_save)
