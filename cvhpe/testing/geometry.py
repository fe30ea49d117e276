"""Checks that a modality follows the view, as every other modality of the sample does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from cvhpe.plugin.contract import View
from cvhpe.testing.check import require, skip_check
from cvhpe.testing.fakes import centroid, disc, flip_view, generator, random_view, rotate_flip, transform_points
from cvhpe.testing.modality_under_test import BATCH, MARGIN, ModalityUnderTest

VIEWS = 8
RADIUS = 0.12
PIXELS = 0.5  # tolerated error of a disc's centre
FORMULA = "p moves to scale * R(angle) @ F @ p + shift (cvhpe.View); cvhpe.ops.warp_image and warp_joints do it"


def augment_leaves_its_input_alone(s: ModalityUnderTest) -> None:
    """augment changes neither its batch nor the view"""
    x, view = s.fake(), random_view(BATCH, generator(1))
    keep, packed = x.clone(), view.packed.clone()
    s.modality.augment(x, view)
    require(torch.equal(x, keep), "augment changed its batch in place", "work on a copy: x = x.clone(), no `x +=`")
    require(torch.equal(view.packed, packed), "augment changed the view", "copy it: all modalities share the view")


def identity_view_changes_nothing(s: ModalityUnderTest) -> None:
    """augment(x, View.identity(n)) is x"""
    x = s.fake()
    _close(s.modality.augment(x, View.identity(BATCH)), x, "the identity view")


def flip_twice_is_the_identity(s: ModalityUnderTest) -> None:
    """two flips cancel"""
    x = s.fake()
    once = s.modality.augment(x, flip_view(BATCH))
    _close(s.modality.augment(once, flip_view(BATCH)), x, "flipping twice")


def augment_follows_the_view(s: ModalityUnderTest) -> None:
    """a network-ready sample, an image or joints, is transformed by the view"""
    view = random_view(VIEWS, generator(4))
    if s.modality.geometry == "image":
        require(
            len(s.modality.shape) == 3,
            f"geometry is 'image', but shape is {s.modality.shape}",
            "use (channels, height, width)",
        )
        x = s.fake(n=2)
        low, high = x.amin().item(), x.amax().item()
        inside = disc(VIEWS, (s.modality.shape[1], s.modality.shape[2]), _centres(), RADIUS)
        without = torch.full((VIEWS, *s.modality.shape), low)
        _discs_agree(s, without.masked_fill(inside[:, None], high), without, inside, view)
    else:
        x = s.fake(n=VIEWS)
        _points_agree(s, x, s.modality.augment(x, view), view)


def stored_batch_follows_the_view(s: ModalityUnderTest) -> None:
    """a stored batch, `margin` times as wide as the crop, is transformed by the view"""
    fields = s.fields(VIEWS)
    n = len(next(iter(fields.values())))
    view = random_view(n, generator(4), margin=MARGIN)
    if s.modality.geometry == "image":
        with_disc, without, inside = _stored_discs(fields, n)
        _discs_agree(s, s.modality.stored(with_disc), s.modality.stored(without), inside, view)
    else:
        stored = s.modality.stored(fields)
        identity = replace(View.identity(n), margin=MARGIN)
        _points_agree(s, s.modality.augment(stored, identity), s.modality.augment(stored, view), view)


def _stored_discs(fields: Mapping[str, Tensor], n: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """The fields with and without a disc in every image of a known format."""
    paint = {"rgb": (60, 200), "depth": (40000, 20000), "mask": (0, 1)}
    if not set(fields) & set(paint):
        skip_check(f"reads {', '.join(fields)}: no image of a known format to draw a disc into")
    with_disc, without = dict(fields), dict(fields)
    for name in set(fields) & set(paint):
        ground, figure = paint[name]
        shape = fields[name].shape
        inside = disc(n, (shape[1], shape[2]), _centres(n) / MARGIN, RADIUS / MARGIN)
        mask = inside.reshape(*inside.shape, *[1] * (len(shape) - 3)).expand(shape)
        without[name] = torch.full(shape, ground, dtype=torch.int32).to(fields[name].dtype)
        with_disc[name] = torch.where(mask, figure, ground).to(fields[name].dtype)
    return with_disc, without, inside


def _centres(n: int = VIEWS) -> Tensor:
    return (torch.rand(n, 2, generator=generator(6)) - 0.5) * 0.3


def _discs_agree(s: ModalityUnderTest, with_disc: Tensor, without: Tensor, inside: Tensor, view: View) -> None:
    """Compare the disc's expected and actual position in the difference of two augmented images."""
    difference = (s.modality.augment(with_disc, view) - s.modality.augment(without, view)).abs().sum(1)
    require(
        (difference.sum((1, 2)) > 0).all(),
        "the image is empty after augment with a view",
        "check the order of the axes",
    )
    expected = transform_points(view.margin * centroid(inside.float())[:, None], view)[:, 0]
    off = (centroid(difference) - expected) * torch.tensor([s.modality.shape[2], s.modality.shape[1]])
    worst = off.norm(dim=1).max().item()
    require(
        worst < PIXELS,
        f"a disc is {worst:.1f} pixels from its position under the view",
        FORMULA + _usual_mistake(s, difference, inside, view),
    )
    area = difference.sum((1, 2)) / difference.amax((1, 2)) / (s.modality.shape[1] * s.modality.shape[2])
    before = inside.float().mean((1, 2)) * view.margin**2
    ratio = area / before / view.scale**2
    require(
        ((ratio - 1).abs() < 0.2).all(),
        f"a disc has {ratio[(ratio - 1).abs().argmax()]:.2f} times its area under the view",
        "scale above 1 enlarges, and a stored image is view.margin times as wide as the crop",
    )


def _usual_mistake(s: ModalityUnderTest, difference: Tensor, inside: Tensor, view: View) -> str:
    """Name the usual mistake that explains the position, if one does."""
    at = view.margin * centroid(inside.float())[:, None]
    wrong = {
        "the angle has the other sign": replace(view, angle=-view.angle),
        "the flip is missing": replace(view, flip=torch.zeros_like(view.flip)),
        "the scale is the wrong way round": replace(view, scale=1 / view.scale),
        "the shift has the other sign": replace(view, shift=-view.shift),
        "the view is not applied": View.identity(len(view)),
    }
    for what, other in wrong.items():
        gap = (centroid(difference) - transform_points(at, other)[:, 0]).norm(dim=1).max() * s.modality.shape[2]
        if gap < PIXELS:
            return f"; it looks as if {what}"
    if (
        (centroid(difference) - transform_points(at / view.margin, view)[:, 0]).norm(dim=1).max() * s.modality.shape[2]
    ) < 2 * PIXELS:
        return "; it looks as if view.margin is ignored"
    return ""


def _points_agree(s: ModalityUnderTest, before: Tensor, after: Tensor, view: View) -> None:
    if s.modality.geometry == "none":
        skip_check("geometry is 'none': nothing follows the view")
    k = 2 if s.modality.geometry == "points2d" else 3
    require(
        len(s.modality.shape) == 2 and s.modality.shape[1] == k,
        f"geometry is {s.modality.geometry!r}, but shape is {s.modality.shape}",
        f"use (points, {k})",
    )
    if k == 2:
        expected, actual = transform_points(before, view), after
        rule = FORMULA
    else:  # the modality chooses its root: compare differences of joints only
        expected, actual = rotate_flip(before - before[:, :1], view), after - after[:, :1]
        rule = "root-relative joints follow with R(angle) @ F about z; scale and shift change the image, not the hand"
    gap = (actual - expected).abs().max().item()
    require(
        gap < 1e-3 * (1 + before.abs().max().item()), f"points are {gap:.3g} from their positions under the view", rule
    )


def _close(y: Tensor, x: Tensor, what: str) -> None:
    require(
        y.shape == x.shape,
        f"{what} changed the shape {tuple(x.shape)} to {tuple(y.shape)}",
        "augment gives [B, *shape]",
    )
    gap = (y - x).abs().max().item()
    require(
        gap <= 1e-3 * (1 + x.abs().max().item()),
        f"{what} changed values by up to {gap:.3g}",
        "flip and rotate about the centre of the crop, (size - 1) / 2 in pixels, and normalise stored batches only",
    )


TESTS = (
    augment_leaves_its_input_alone,
    identity_view_changes_nothing,
    flip_twice_is_the_identity,
    augment_follows_the_view,
    stored_batch_follows_the_view,
)
