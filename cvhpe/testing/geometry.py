"""Checks that a modality turns with the view, as every other modality of the sample does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from unittest import SkipTest

import torch
from torch import Tensor

from cvhpe.plugin.contract import View
from cvhpe.testing.check import require
from cvhpe.testing.fakes import centroid, disc, flip_view, generator, random_view, seen_points, turned
from cvhpe.testing.subject import BATCH, MARGIN, Subject

VIEWS = 8
RADIUS = 0.12
PIXELS = 0.5  # how far the centre of a disc may be off
FORMULA = (
    "seen = scale * R(angle) @ F @ p + shift in crop fractions (cvhpe.View); cvhpe.ops.warp_image and warp_joints do it"
)


def augment_leaves_its_input_alone(s: Subject) -> None:
    """augment changes neither its batch nor the view"""
    x, view = s.fake(), random_view(BATCH, generator(1))
    keep, packed = x.clone(), view.packed.clone()
    s.m.augment(x, view)
    require(torch.equal(x, keep), "augment changed its batch in place", "work on a copy: x = x.clone(), no `x +=`")
    require(
        torch.equal(view.packed, packed), "augment changed the view", "the view is shared by all modalities: copy it"
    )


def identity_view_changes_nothing(s: Subject) -> None:
    """augment(x, View.identity(n)) is x"""
    x = s.fake()
    _close(s.m.augment(x, View.identity(BATCH)), x, "the identity view")


def flip_twice_is_the_identity(s: Subject) -> None:
    """two flips cancel"""
    x = s.fake()
    once = s.m.augment(x, flip_view(BATCH))
    _close(s.m.augment(once, flip_view(BATCH)), x, "flipping twice")


def augment_follows_the_view(s: Subject) -> None:
    """a thing in a network-ready sample is seen where the view says, in pictures as in joints"""
    view = random_view(VIEWS, generator(4))
    if s.m.geometry == "image":
        require(len(s.m.shape) == 3, f"geometry is 'image', but shape is {s.m.shape}", "use (channels, height, width)")
        x = s.fake(n=2)
        low, high = x.amin().item(), x.amax().item()
        there = disc(VIEWS, (s.m.shape[1], s.m.shape[2]), _places(), RADIUS)
        without = torch.full((VIEWS, *s.m.shape), low)
        _discs_agree(s, without.masked_fill(there[:, None], high), without, there, view)
    else:
        x = s.fake(n=VIEWS)
        _points_agree(s, x, s.m.augment(x, view), view)


def stored_batch_follows_the_view(s: Subject) -> None:
    """a thing in a stored batch, which shows `margin` times the crop, is seen where the view says"""
    fields = s.fields(VIEWS)
    n = len(next(iter(fields.values())))
    view = random_view(n, generator(4), margin=MARGIN)
    if s.m.geometry == "image":
        with_disc, without, there = _stored_discs(fields, n)
        _discs_agree(s, s.m.stored(with_disc), s.m.stored(without), there, view)
    else:
        stored = s.m.stored(fields)
        identity = replace(View.identity(n), margin=MARGIN)
        _points_agree(s, s.m.augment(stored, identity), s.m.augment(stored, view), view)


def _stored_discs(fields: Mapping[str, Tensor], n: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """The fields with and without a disc in every picture that we know how to paint."""
    paint = {"rgb": (60, 200), "depth": (40000, 20000), "mask": (0, 1)}
    if not set(fields) & set(paint):
        raise SkipTest(f"reads {', '.join(fields)}: no picture to paint a disc into")
    with_disc, without = dict(fields), dict(fields)
    for name in set(fields) & set(paint):
        ground, figure = paint[name]
        shape = fields[name].shape
        there = disc(n, (shape[1], shape[2]), _places(n) / MARGIN, RADIUS / MARGIN)
        mask = there.reshape(*there.shape, *[1] * (len(shape) - 3)).expand(shape)
        without[name] = torch.full(shape, ground, dtype=torch.int32).to(fields[name].dtype)
        with_disc[name] = torch.where(mask, figure, ground).to(fields[name].dtype)
    return with_disc, without, there


def _places(n: int = VIEWS) -> Tensor:
    return (torch.rand(n, 2, generator=generator(6)) - 0.5) * 0.3


def _discs_agree(s: Subject, with_disc: Tensor, without: Tensor, there: Tensor, view: View) -> None:
    """Compare where a disc was painted with where it is seen: a difference of two pictures shows nothing else."""
    seen = (s.m.augment(with_disc, view) - s.m.augment(without, view)).abs().sum(1)
    require((seen.sum((1, 2)) > 0).all(), "nothing of the picture is seen under a view", "mind the order of the axes")
    expected = seen_points(view.margin * centroid(there.float())[:, None], view)[:, 0]
    off = (centroid(seen) - expected) * torch.tensor([s.m.shape[2], s.m.shape[1]])
    worst = off.norm(dim=1).max().item()
    require(
        worst < PIXELS,
        f"a disc is seen {worst:.1f} pixels beside where the view puts it",
        FORMULA + _hint(s, seen, there, view),
    )
    area = seen.sum((1, 2)) / seen.amax((1, 2)) / (s.m.shape[1] * s.m.shape[2])
    before = there.float().mean((1, 2)) * view.margin**2
    ratio = area / before / view.scale**2
    require(
        ((ratio - 1).abs() < 0.2).all(),
        f"a disc is seen {ratio[(ratio - 1).abs().argmax()]:.2f} times as large as the view says",
        "scale above 1 enlarges, and a stored picture shows view.margin times the crop",
    )


def _hint(s: Subject, seen: Tensor, there: Tensor, view: View) -> str:
    """Name the usual mistake where one explains what is seen."""
    at = view.margin * centroid(there.float())[:, None]
    wrong = {
        "the angle has the other sign": replace(view, angle=-view.angle),
        "the flip is missing": replace(view, flip=torch.zeros_like(view.flip)),
        "the scale is the wrong way round": replace(view, scale=1 / view.scale),
        "the shift has the other sign": replace(view, shift=-view.shift),
        "the view is not applied": View.identity(len(view)),
    }
    for what, other in wrong.items():
        gap = (centroid(seen) - seen_points(at, other)[:, 0]).norm(dim=1).max() * s.m.shape[2]
        if gap < PIXELS:
            return f"; it looks as if {what}"
    if ((centroid(seen) - seen_points(at / view.margin, view)[:, 0]).norm(dim=1).max() * s.m.shape[2]) < 2 * PIXELS:
        return "; it looks as if view.margin is not heeded"
    return ""


def _points_agree(s: Subject, before: Tensor, after: Tensor, view: View) -> None:
    if s.m.geometry == "none":
        raise SkipTest("geometry is 'none': nothing turns with the view")
    k = 2 if s.m.geometry == "points2d" else 3
    require(
        len(s.m.shape) == 2 and s.m.shape[1] == k,
        f"geometry is {s.m.geometry!r}, but shape is {s.m.shape}",
        f"use (points, {k})",
    )
    if k == 2:
        expected, seen = seen_points(before, view), after
        rule = FORMULA
    else:  # where the root went is the modality's own affair: only differences of joints are compared
        expected, seen = turned(before - before[:, :1], view), after - after[:, :1]
        rule = "root-relative joints follow with R(angle) @ F about z; scale and shift change the picture, not the hand"
    gap = (seen - expected).abs().max().item()
    require(
        gap < 1e-3 * (1 + before.abs().max().item()), f"points are off by {gap:.3g} from where the view puts them", rule
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
        "mirror and turn about the centre of the crop, (size - 1) / 2 in pixels, and normalise only what is stored",
    )


TESTS = (
    augment_leaves_its_input_alone,
    identity_view_changes_nothing,
    flip_twice_is_the_identity,
    augment_follows_the_view,
    stored_batch_follows_the_view,
)
