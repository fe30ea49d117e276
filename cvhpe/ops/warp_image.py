"""``warp_image``: crop, rotate, flip, resize and normalise a batch of images in one pass. Schema: csrc/ops.

The kernels and the reference implementation do the same float32 additions and multiplications in the same order: they
read the same pixels and give the same bits.

For output pixel ``(i, j)`` of a ``w x h`` image, per axis:

* fraction of the crop ``q = (i - (w - 1) / 2) / w``;
* fraction of the stored image ``p = F^-1 R(angle)^-1 (q - shift) / (scale * margin)``;
* source pixel ``x = p * W + (W - 1) / 2``.

Fractions are of the width in x and of the height in y. The crop is a square of the scene for every output size, so a
rotation is a rotation of the scene and :func:`cvhpe.ops.warp_joints` agrees for every size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cvhpe.ops.extension_loader import has_kernels, kernel_state
from cvhpe.plugin.contract import View

WarpMode = Literal["bilinear", "nearest_hole"]
ImageLayout = Literal["NHWC", "NCHW"]

SOURCE_DTYPES = (torch.uint8, torch.uint16, torch.float32)
OUTPUT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def warp_image(
    src: Tensor,
    view: View,
    size: int | tuple[int, int],
    *,
    mean: float = 0.0,
    scale: float = 1.0,
    mode: WarpMode = "bilinear",
    fill: float = 0.0,
    layout: ImageLayout = "NHWC",
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Warp stored images as their views show them, normalised to ``(value - mean) * scale``.

    Differentiable in a float32 ``src``, then with the reference implementation; not in the view. A view that shrinks
    the image more than twofold aliases, as four neighbours cannot average more. A view that is not finite gives NaN.

    Args:
        src: ``[B, H, W, C]`` (``layout="NHWC"``), ``[B, C, H, W]`` (``"NCHW"``) or ``[B, H, W]``; uint8, uint16 or
            float32, of any strides.
        view: ``B`` views; ``view.margin`` is the side of ``src`` in sides of the crop.
        size: Output ``(h, w)`` in pixels, or one number for both.
        mean: Subtracted from the values, in the source's units.
        scale: Multiplied afterwards.
        mode: ``"bilinear"`` blends the four neighbours. ``"nearest_hole"`` is for depth, where 0 is a hole: the pixel
            is a hole if the holes' bilinear weight is more than half, else the value of the nonzero neighbour of the
            largest weight. Values never mix, so no surface appears between a hand and its background.
        fill: Value of everything outside the image, in the source's units; border pixels blend with it.
        layout: Meaning of the axes of ``src``.
        channels_last: Memory format of the output.
        dtype: float32, bfloat16 or float16; the arithmetic is float32.

    Returns:
        ``[B, C, h, w]``.

    Raises:
        ValueError: A shape, option or device does not fit; the message names the argument.
        TypeError: A dtype does not fit; the message names the argument.

    Example:
        >>> images = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
        >>> warped = warp_image(images, View.identity(1), 2, mean=1, scale=2)
        >>> warped.shape, warped[0, :, 0, 0].tolist()
        (torch.Size([1, 3, 2, 2]), [-2.0, 0.0, 2.0])
    """
    images, packed, h, w = _operator_arguments(src, view, size, layout, mode, dtype)
    arguments = (
        images,
        packed,
        float(view.margin),
        h,
        w,
        mean,
        scale,
        mode == "nearest_hole",
        fill,
        channels_last,
        dtype,
    )
    if (images.requires_grad and torch.is_grad_enabled()) or not has_kernels(images.device.type):
        return _reference(*arguments)
    return torch.ops.cvhpe.warp_image(*arguments)


def warp_image_reference(
    src: Tensor,
    view: View,
    size: int | tuple[int, int],
    *,
    mean: float = 0.0,
    scale: float = 1.0,
    mode: WarpMode = "bilinear",
    fill: float = 0.0,
    layout: ImageLayout = "NHWC",
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Reference implementation of :func:`warp_image`.

    Args:
        src: As of :func:`warp_image`.
        view: As of :func:`warp_image`.
        size: As of :func:`warp_image`.
        mean: As of :func:`warp_image`.
        scale: As of :func:`warp_image`.
        mode: As of :func:`warp_image`.
        fill: As of :func:`warp_image`.
        layout: As of :func:`warp_image`.
        channels_last: As of :func:`warp_image`.
        dtype: As of :func:`warp_image`.

    Returns:
        ``[B, C, h, w]``.
    """
    images, packed, h, w = _operator_arguments(src, view, size, layout, mode, dtype)
    nearest = mode == "nearest_hole"
    return _reference(images, packed, float(view.margin), h, w, mean, scale, nearest, fill, channels_last, dtype)


def source_matrix(packed: Tensor, margin: float, size: tuple[int, int], source: tuple[int, int]) -> Tensor:
    """The affine map from output pixels, counted from the image's centre, to source pixels.

    Args:
        packed: ``[B, 5]`` packed views.
        margin: Side of the source in sides of the crop.
        size: Output ``(height, width)``.
        source: Source ``(height, width)``.

    Returns:
        ``[B, 2, 3]`` float32, computed in float64 and rounded once.

    Example:
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
    """The top left neighbour of each output pixel and the distance from it in x and y, in [0, 1).

    The neighbour is given as its index ``[B, h, w]`` into the image padded by two pixels on each side.
    """
    x, y = _coordinates(packed, margin, h, w, height, width)
    x0, y0 = x.floor(), y.floor()
    # Far coordinates and NaN are clamped into the padding: they have no integer.
    column = x0.nan_to_num(-2.0).clamp(-2, width).long() + 2
    row = y0.nan_to_num(-2.0).clamp(-2, height).long() + 2
    return row * (width + 4) + column, x - x0, y - y0


def _reference(
    images: Tensor,
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
    batch, channels, height, width = images.shape
    index, fx, fy = (t.flatten(1)[:, None] for t in _neighbours(packed, margin, h, w, height, width))
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), value=fill).flatten(2)
    taps = [
        padded.gather(2, (index + step).expand(batch, channels, h * w)) for step in (0, 1, width + 4, width + 5)
    ]  # top left, top right, bottom left, bottom right
    value = _nearest_hole(taps, fx, fy) if nearest else _bilinear(taps, fx, fy)
    warped = ((value - mean) * scale).to(dtype).view(batch, channels, h, w)
    return warped.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


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


def _operator_arguments(
    src: Tensor, view: View, size: int | tuple[int, int], layout: str, mode: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor, int, int]:
    """The checked arguments as the operator takes them: ``[B, C, H, W]``, ``[B, 5]``, h, w; nothing is copied."""
    if layout not in ("NHWC", "NCHW"):
        raise ValueError(f"layout: got {layout!r}, expected 'NHWC' or 'NCHW'")
    if src.dim() not in (3, 4):
        expected = "[B, H, W, C]" if layout == "NHWC" else "[B, C, H, W]"
        raise ValueError(f"src: got shape {list(src.shape)}, expected {expected} or [B, H, W]")
    images = src.unsqueeze(1) if src.dim() == 3 else src.permute(0, 3, 1, 2) if layout == "NHWC" else src
    h, w = (size, size) if isinstance(size, int) else size
    _check(images, view, h, w, mode, dtype)
    packed = view.packed.to(torch.float32)
    if packed.requires_grad:
        raise ValueError("view: requires grad, but warp_image has no gradient in the view; detach it")
    return images, packed, h, w


def _check(images: Tensor, view: View, h: int, w: int, mode: str, dtype: torch.dtype) -> None:
    batch, _, height, width = images.shape
    if mode not in ("bilinear", "nearest_hole"):
        raise ValueError(f"mode: got {mode!r}, expected one of bilinear, nearest_hole")
    if images.dtype not in SOURCE_DTYPES:
        raise TypeError(f"src: got {images.dtype}, expected one of {', '.join(map(str, SOURCE_DTYPES))}")
    if dtype not in OUTPUT_DTYPES:
        raise TypeError(f"dtype: got {dtype}, expected one of {', '.join(map(str, OUTPUT_DTYPES))}")
    if len(view) != batch:
        raise ValueError(f"view: got {len(view)} views, expected {batch}, one for each image of src")
    if h < 1 or w < 1:
        raise ValueError(f"size: got ({h}, {w}), expected at least (1, 1)")
    if height < 1 or width < 1:
        raise ValueError(f"src: got images of {height} x {width} pixels, expected at least 1 x 1")
    if not view.margin > 0:
        raise ValueError(f"view: got margin {view.margin}, expected a number above 0")
    if view.angle.device != images.device:
        raise ValueError(f"view: got device {view.angle.device}, expected src's, {images.device}")


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


if kernel_state().loaded:
    torch.library.register_fake("cvhpe::warp_image", _fake)
