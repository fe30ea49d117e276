"""warp_image: kernels against the reference bit for bit, the reference against grid_sample, images against joints."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvhpe.ops import kernel_state, warp_image, warp_joints
from cvhpe.ops.warp_image import SOURCE_DTYPES, warp_image_reference
from cvhpe.plugin.contract import View

needs_kernels = pytest.mark.skipif(not kernel_state().loaded, reason=kernel_state().reason)
needs_gpu = pytest.mark.skipif("cuda" not in kernel_state().devices or not torch.cuda.is_available(), reason="no GPU")


def sample_views(n: int, margin: float = 1.3, seed: int = 0) -> View:
    g = torch.Generator().manual_seed(seed)
    angle, scale, shift = torch.randn(n, generator=g), torch.rand(n, generator=g) + 0.6, torch.randn(n, 2, generator=g)
    return View(angle, scale, 0.15 * shift, torch.arange(n) % 2 == 1, torch.zeros(n), margin)


def sample_source(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Values that every dtype holds exactly, a third of them holes."""
    g = torch.Generator().manual_seed(seed)
    return (torch.randint(1, 250, shape, generator=g) * (torch.rand(shape, generator=g) > 0.3)).to(dtype)


def by_grid_sample(src: Tensor, view: View, h: int, w: int) -> Tensor:
    """Independent computation: torch's grid in float64, the inverse by linear algebra. src ``[B, C, H, W]``."""
    angle = view.angle.double()
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    flips = torch.diag_embed(torch.stack([torch.where(view.flip, -1.0, 1.0), torch.ones(len(view))], 1)).double()
    view_matrix = (view.scale.double() * view.margin)[:, None, None] * rotation @ flips
    inverse = torch.linalg.inv(view_matrix)
    # grid_sample counts from -1 to 1 what we count from -1/2 to 1/2.
    theta = torch.cat([inverse, -2 * inverse @ view.shift.double()[:, :, None]], 2)
    grid = torch.nn.functional.affine_grid(theta, [len(src), 1, h, w], align_corners=False)
    return torch.nn.functional.grid_sample(src.double(), grid, padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize(("height", "width", "h", "w"), [(40, 50, 33, 47), (31, 31, 31, 31), (16, 9, 40, 60)])
def test_bilinear_is_what_grid_sample_gives(height: int, width: int, h: int, w: int) -> None:
    src, view = sample_source((4, height, width, 3), torch.uint8), sample_views(4)
    expected = by_grid_sample(src.permute(0, 3, 1, 2), view, h, w)
    # Float32 coordinates are within 2e-5 pixels, and neighbours differ by up to 250.
    for f in (warp_image, warp_image_reference):
        torch.testing.assert_close(f(src, view, (h, w)).double(), expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize("dtype", SOURCE_DTYPES)
@pytest.mark.parametrize("mode", ["bilinear", "nearest_hole"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (32, 48)])
def test_nothing_changes_under_the_identity(dtype: torch.dtype, mode: str, size: tuple[int, int]) -> None:
    src = sample_source((2, *size, 3), dtype)
    warped = warp_image(src, View.identity(2), size, mode=mode)  # type: ignore[arg-type]
    assert torch.equal(warped, src.permute(0, 3, 1, 2).float())


def test_shifts_flips_and_right_angles_move_whole_pixels() -> None:
    src = sample_source((1, 8, 8), torch.float32)
    identity = View.identity(1)
    flipped = View(identity.angle, identity.scale, identity.shift, ~identity.flip, identity.root_shift_weight)
    assert torch.equal(warp_image(src, flipped, 8)[:, 0], src.flip(2))
    shifted = View(
        identity.angle, identity.scale, torch.tensor([[0.25, 0.0]]), identity.flip, identity.root_shift_weight
    )
    expected = torch.nn.functional.pad(src, (2, 0), value=7.0)[:, :, :8]
    assert torch.equal(warp_image(src, shifted, 8, fill=7.0)[:, 0], expected)
    rotated = View(
        identity.angle + math.pi / 2, identity.scale, identity.shift, identity.flip, identity.root_shift_weight
    )
    # From x to y, y down: the right side of the image becomes the bottom.
    torch.testing.assert_close(
        warp_image(src, rotated, 8, fill=7.0)[:, 0, 1:-1, 1:-1], src.rot90(-1, (1, 2))[:, 1:-1, 1:-1], atol=1e-3, rtol=0
    )


@needs_kernels
@pytest.mark.parametrize("dtype", SOURCE_DTYPES)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_every_instruction_set_gives_the_bits_of_the_reference(cpu_level: str, dtype: torch.dtype, layout: str) -> None:
    view = sample_views(3, seed=5)
    for height, width, h, w in [(1, 1, 3, 2), (1, 6, 5, 5), (2, 2, 4, 9), (5, 4, 7, 33), (40, 50, 20, 270)]:
        for channels in (1, 3, 4):
            shape = (3, height, width, channels) if layout == "NHWC" else (3, channels, height, width)
            src = sample_source(shape, dtype)
            for mode, fill in (("bilinear", 9.0), ("nearest_hole", 0.0)):
                for channels_last, to in ((False, torch.float32), (True, torch.bfloat16), (False, torch.float16)):
                    options = {"mean": 3, "scale": 0.3, "mode": mode, "fill": fill, "layout": layout}
                    options |= {"channels_last": channels_last, "dtype": to}
                    warped = warp_image(src, view, (h, w), **options)  # type: ignore[arg-type]
                    expected = warp_image_reference(src, view, (h, w), **options)  # type: ignore[arg-type]
                    assert torch.equal(warped, expected), (shape, h, w, mode, channels_last, to)
                    memory = torch.channels_last if channels_last else torch.contiguous_format
                    assert warped.is_contiguous(memory_format=memory)
                    assert expected.is_contiguous(memory_format=memory)


@needs_kernels
def test_sources_of_any_strides(cpu_level: str) -> None:
    view, images = sample_views(3), sample_source((3, 20, 24, 3), torch.uint8)
    strided = {
        "window": images[:, 3:15, 4:20],
        "every other pixel": images[:, ::2, ::2],
        "one channel": images[..., 1:2],
        "the same image": images[:1].expand(3, -1, -1, -1),
        "transposed": images.transpose(1, 2),
    }
    for name, src in strided.items():
        assert torch.equal(warp_image(src, view, 16), warp_image_reference(src, view, 16)), name


@needs_kernels
def test_threads_do_not_change_a_bit(threads: int) -> None:
    src, view = sample_source((5, 90, 80, 3), torch.uint8), sample_views(5)
    assert torch.equal(warp_image(src, view, 101), warp_image_reference(src, view, 101))


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-3.2, 3.2),
    scale=st.floats(0.7, 1.4),
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    flip=st.booleans(),
    margin=st.floats(1.0, 1.6),
    joint=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    size=st.tuples(st.integers(60, 90), st.integers(60, 90)),
)
def test_a_point_lands_where_its_joint_lands(
    angle: float,
    scale: float,
    shift: tuple[float, float],
    flip: bool,
    margin: float,
    joint: tuple[float, float],
    size: tuple[int, int],
) -> None:
    view = View(
        torch.tensor([angle]),
        torch.tensor([scale]),
        torch.tensor([shift]),
        torch.tensor([flip]),
        torch.zeros(1),
        margin,
    )
    height, width = 192, 160  # of the stored image, whose pixels are then not square
    x, y = torch.arange(width, dtype=torch.float64), torch.arange(height, dtype=torch.float64)[:, None]
    px, py = (joint[0] / margin * width + (width - 1) / 2, joint[1] / margin * height + (height - 1) / 2)
    spot = torch.exp(-(((x - px) / width) ** 2 + ((y - py) / height) ** 2) / (2 * 0.02**2))
    warped = warp_image(spot[None].float(), view, size)[0, 0].double()
    landed = warp_joints(torch.tensor([[joint]]), view)[0, 0]
    h, w = size
    u, v = torch.arange(w, dtype=torch.float64), torch.arange(h, dtype=torch.float64)[:, None]
    centroid = (warped * u).sum() / warped.sum(), (warped * v).sum() / warped.sum()
    expected = float(landed[0]) * w + (w - 1) / 2, float(landed[1]) * h + (h - 1) / 2
    inside = all(10 < e < n - 11 for e, n in zip(expected, (w, h), strict=True))
    if inside:  # a spot that is cut off has its centroid elsewhere
        assert abs(float(centroid[0]) - expected[0]) < 0.05
        assert abs(float(centroid[1]) - expected[1]) < 0.05


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), margin=st.floats(1.0, 1.5))
def test_depth_values_never_mix(seed: int, margin: float) -> None:
    src = sample_source((2, 17, 19), torch.uint16, seed)
    warped = warp_image(src, sample_views(2, margin, seed), (23, 21), mode="nearest_hole")
    assert set(warped.unique().tolist()) <= set(src.float().unique().tolist()) | {0.0}


def test_a_pixel_is_a_hole_where_holes_weigh_more_than_half() -> None:
    def between(a: int, b: int, c: int, d: int, fx: float, fy: float) -> float:
        view = View.identity(1)
        # The one output pixel is the image's centre; the shift moves it to (fx, fy) between the four pixels.
        view.shift[:] = (0.5 - torch.tensor([fx, fy])) / 2
        return warp_image(torch.tensor([[[a, b], [c, d]]]).to(torch.uint16), view, 1, mode="nearest_hole").item()

    assert between(10, 20, 30, 40, 0.1, 0.1) == 10
    assert between(10, 20, 30, 40, 0.9, 0.9) == 40
    assert between(0, 20, 30, 40, 0.25, 0.25) == 0  # the hole weighs 9/16
    assert between(0, 20, 30, 40, 0.375, 0.25) == 20  # 15/32; of the others the right one is heaviest
    assert between(0, 0, 0, 40, 0.5, 0.5) == 0
    assert between(0, 0, 30, 40, 0.25, 0.5) == 30  # exactly half
    assert between(0, 0, 0, 0, 0.3, 0.3) == 0


@pytest.mark.parametrize("f", [warp_image, warp_image_reference])
def test_nan_and_infinity_go_through(f) -> None:
    src = torch.ones(1, 6, 6)
    src[0, 2, 3] = torch.nan
    warped = f(src, View.identity(1), 6)[0, 0]
    # A neighbour of weight 0 still multiplies: NaN reaches the pixels to the left and above, as in grid_sample.
    assert warped.isnan().nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    for field, value in (("angle", torch.nan), ("scale", torch.inf), ("scale", 0.0), ("shift", torch.inf)):
        view = View.identity(1)
        getattr(view, field)[:] = value
        for mode in ("bilinear", "nearest_hole"):
            warped = f(torch.ones(1, 20, 20), view, 20, mode=mode)
            assert torch.equal(warped.isnan(), warp_image_reference(torch.ones(1, 20, 20), view, 20, mode=mode).isnan())
            if field != "scale" or value == 0.0:
                assert warped.isnan().all(), (field, value, mode)
    far = View.identity(1)
    far.shift[:] = 1e30
    assert (f(torch.ones(1, 20, 20), far, 20, fill=5.0) == 5).all()


@pytest.mark.parametrize("f", [warp_image, warp_image_reference])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_empty_batches(f, layout: str) -> None:
    src = torch.zeros(0, 5, 5, 5, dtype=torch.uint8)
    assert f(src, View.identity(0), 4, layout=layout).shape == (0, 5, 4, 4)


@pytest.mark.parametrize("mode", ["bilinear", "nearest_hole"])
def test_the_gradient_is_that_of_a_linear_map(mode: str) -> None:
    """Between the holes the warp is linear, so that <warp(x), y> = <x, gradient>."""
    src = sample_source((2, 2, 5, 6), torch.float32).requires_grad_()
    warped = warp_image(src, sample_views(2), (4, 7), scale=0.5, mode=mode, layout="NCHW")  # type: ignore[arg-type]
    upstream = torch.randn(warped.shape)
    (grad,) = torch.autograd.grad(warped, src, upstream)
    torch.testing.assert_close((grad * src).sum(), (warped * upstream).sum(), rtol=1e-4, atol=1e-2)


@needs_kernels
@pytest.mark.parametrize("nearest", [False, True])
def test_opcheck(nearest: bool) -> None:
    view = sample_views(2).packed
    for src in (sample_source((2, 3, 6, 5), torch.uint8), sample_source((2, 3, 6, 5), torch.float32)):
        for channels_last, dtype in ((False, torch.float32), (True, torch.bfloat16)):
            arguments = (src, view, 1.2, 4, 7, 0.5, 2.0, nearest, 0.0, channels_last, dtype)
            torch.library.opcheck(torch.ops.cvhpe.warp_image.default, arguments)


def test_compiles_without_a_break() -> None:
    src, view = sample_source((2, 9, 9, 3), torch.uint8), sample_views(2)

    def step(x: Tensor) -> Tensor:
        return warp_image(x, view, 8, mean=1, scale=2, channels_last=True) + 1

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(src), step(src))


def test_errors_name_the_argument() -> None:
    src, view = torch.zeros(2, 6, 6, 3, dtype=torch.uint8), View.identity(2)
    with pytest.raises(ValueError, match=r"src: got shape \[6, 6\], expected \[B, H, W, C\] or \[B, H, W\]"):
        warp_image(src[0, :, :, 0], view, 4)
    with pytest.raises(ValueError, match="layout: got 'HWC', expected 'NHWC' or 'NCHW'"):
        warp_image(src, view, 4, layout="HWC")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="view: got 3 views, expected 2"):
        warp_image(src, View.identity(3), 4)
    with pytest.raises(ValueError, match=r"size: got \(0, 4\)"):
        warp_image(src, view, (0, 4))
    with pytest.raises(ValueError, match="mode: got 'nearest', expected one of bilinear, nearest_hole"):
        warp_image(src, view, 4, mode="nearest")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"src: got torch.int64, expected one of torch.uint8"):
        warp_image(src.long(), view, 4)
    with pytest.raises(TypeError, match=r"dtype: got torch.uint8, expected one of torch.float32"):
        warp_image(src, view, 4, dtype=torch.uint8)
    with_grad = View.identity(2)
    with_grad.angle.requires_grad_()
    with pytest.raises(ValueError, match="view: requires grad"):
        warp_image(src, with_grad, 4)


@needs_kernels
def test_the_operator_checks_its_arguments() -> None:
    src, view = torch.zeros(2, 3, 6, 6), View.identity(2).packed
    rest = (1.0, 4, 4, 0.0, 1.0, False, 0.0, False, torch.float32)
    with pytest.raises(RuntimeError, match=r"warp_image: view: shape \[2, 4\], expected \[2, 5\]"):
        torch.ops.cvhpe.warp_image(src, view[:, :4], *rest)
    with pytest.raises(RuntimeError, match=r"warp_image: src: shape \[3, 6, 6\], expected \[B, C, H, W\]"):
        torch.ops.cvhpe.warp_image(src[0], view, *rest)
    with pytest.raises(RuntimeError, match="warp_image: view: dtype, expected float32"):
        torch.ops.cvhpe.warp_image(src, view.double(), *rest)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", SOURCE_DTYPES)
@pytest.mark.parametrize("mode", ["bilinear", "nearest_hole"])
def test_the_gpu_gives_the_bits_of_the_reference(dtype: torch.dtype, mode: str) -> None:
    view = sample_views(3)
    on_gpu = View(
        *(getattr(view, k).cuda() for k in ("angle", "scale", "shift", "flip", "root_shift_weight")), view.margin
    )
    for channels in (1, 3, 4):
        src = sample_source((3, 40, 50, channels), dtype)
        for channels_last in (False, True):
            options = {"mean": 3, "scale": 0.3, "mode": mode, "channels_last": channels_last}
            warped = warp_image(src.cuda(), on_gpu, (33, 47), **options)  # type: ignore[arg-type]
            assert torch.equal(warped.cpu(), warp_image_reference(src, view, (33, 47), **options))  # type: ignore[arg-type]
