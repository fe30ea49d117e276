"""Checks of a modality's fake and stored samples, loss, metrics and plots."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cvhpe.plugin.contract import Modality, ModelShape, View
from cvhpe.testing.check import fail_check, require, skip_check
from cvhpe.testing.fakes import generator, random_view
from cvhpe.testing.modality_under_test import BATCH, MARGIN, ModalityUnderTest


def fake_is_valid(s: ModalityUnderTest) -> None:
    """fake(n, generator) gives n finite, differing float32 samples of the modality's shape"""
    for n in (1, BATCH):
        x = s.fake(n=n)
        require(
            x.shape == (n, *s.modality.shape),
            f"fake gave the shape {tuple(x.shape)}, shape says {(n, *s.modality.shape)}",
            "return torch.rand(n, *shape, generator=generator) or the like, or correct `shape`",
        )
        require(x.dtype == torch.float32, f"fake gave {x.dtype}", "fake is network-ready data: return float32")
        require(x.isfinite().all(), "fake gave NaN or infinite values", "return finite values")
    x = s.fake()
    require(
        (x[0] != x[1]).any() and (x.amax() > x.amin()),
        "all samples of fake are equal",
        "sample each one independently",
    )


def fake_is_seeded(s: ModalityUnderTest) -> None:
    """fake uses the given generator as its only source of randomness"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        x = s.fake(0)
        torch.manual_seed(2)
        y, z = s.fake(0), s.fake(1)
    require(
        torch.equal(x, y),
        "the same seed gave different samples",
        "pass generator=generator to torch.rand or randn",
    )
    require(not torch.equal(x, z), "another seed gave the same samples", "use the given generator")


def sizes_follow_the_run(s: ModalityUnderTest) -> None:
    """configure(modality, ModelShape) gives the same modality in other sizes"""
    if s.original.configure is None:
        skip_check("has no configure: a single size")
    for size in (64, 128):
        m = s.original.sized(ModelShape(image_size=size))
        require(isinstance(m, Modality), f"configure gave {type(m).__name__}", "return a Modality")
        require(
            (m.name, m.reads, m.units, m.geometry)
            == (s.original.name, s.original.reads, s.original.units, s.original.geometry),
            "configure changed the name, reads, units or geometry",
            "use dataclasses.replace(modality, shape=..., encoder=..., ...)",
        )
        require(
            m.configure is not None,
            "configure is missing in the configured modality",
            "set `configure` in the returned modality",
        )
        x = m.fake(1, generator())
        require(
            x.shape[1:] == m.shape,
            f"fake gave {tuple(x.shape[1:])} at size {size}, shape says {m.shape}",
            "make both follow the size",
        )
        if s.original.geometry == "image":
            require(
                m.shape[1:] == (size, size),
                f"shape is {m.shape} for images of {size} pixels",
                "follow shape.image_size",
            )


def stored_batch_is_augmented(s: ModalityUnderTest) -> None:
    """augment makes finite float samples [B, *shape] of the stored batch, and derive does not change its fields"""
    fields = s.fields()
    before = {k: v.clone() for k, v in fields.items()}
    stored = s.modality.stored(fields)
    changed = [k for k, v in fields.items() if not _same(v, before[k])]
    require(
        not changed,
        f"derive changed the field {', '.join(changed)} in place",
        "work on a copy; other modalities read it as well",
    )
    n = len(next(iter(fields.values())))
    y = s.modality.augment(stored, replace(View.identity(n), margin=MARGIN))
    require(
        y.shape == (n, *s.modality.shape),
        f"augment made {tuple(y.shape)} of a stored batch {tuple(stored.shape)}, shape says {(n, *s.modality.shape)}",
        "augment takes a stored batch (distinguish by dtype) or a network-ready one, and returns [B, *shape]",
    )
    require(y.is_floating_point(), f"augment of a stored batch gave {y.dtype}", "convert to float and normalise there")
    require(y.isfinite().all(), "augment of a stored batch gave NaN or infinity", "handle holes and missing values")


def loss_is_per_sample(s: ModalityUnderTest) -> None:
    """loss(pred, target) is [B], finite and floating point, one number a sample"""
    x, y = s.fake(0), s.fake(1)
    loss = s.modality.loss(y, x)
    require(
        loss.shape == (BATCH,),
        f"loss gave the shape {tuple(loss.shape)} for a batch of {BATCH}",
        "reduce over all axes but the first, e.g. .flatten(1).mean(1)",
    )
    require(
        loss.is_floating_point() and loss.isfinite().all(),
        "loss is not finite",
        "check for 0/0, log(0) and sqrt of a negative number",
    )
    alone = s.modality.loss(y[:1], x[:1])
    require(
        torch.allclose(alone, loss[:1], rtol=1e-4, atol=1e-6),
        "the loss of a sample depends on other samples of the batch",
        "reduce each sample separately",
    )


def loss_is_least_at_the_target(s: ModalityUnderTest) -> None:
    """loss is least where the prediction is the target"""
    x = s.fake(0)
    at = s.modality.loss(x, x)
    noise = torch.randn(x.shape, generator=generator(5)) * x.std()
    for size in (0.01, -0.01, 0.1, -0.1, 1.0, -1.0):
        off = s.modality.loss(x + size * noise, x)
        require(
            (off > at).all(),
            f"a prediction off by {size:g} deviations has the loss {off.min():.3g}, the target itself {at.max():.3g}",
            "use a distance, such as the mean square of pred - target; check the order of the arguments and the sign",
        )


def loss_is_differentiable(s: ModalityUnderTest) -> None:
    """loss has a finite gradient in the prediction, also at the target, and decreases towards the target"""
    x, y = s.fake(0), s.fake(1)
    for what, start in (("at the target", x), ("away from the target", y)):
        pred = start.clone().requires_grad_()
        loss = s.modality.loss(pred, x)
        require(
            loss.requires_grad,
            "loss does not depend on the prediction for autograd",
            "no .detach(), .item(), numpy or rounding in loss",
        )
        (grad,) = torch.autograd.grad(loss.sum(), pred, allow_unused=True)
        require(grad is not None, "loss gives the prediction no gradient", "use `pred` itself, not a detached copy")
        require(
            grad.isfinite().all(),
            f"the gradient {what} is NaN or infinite",
            "avoid sqrt and norm at 0: add a small number or use the square",
        )
    require((grad != 0).any(), "the gradient away from the target is zero", "use a loss without flat regions")
    require(
        ((grad * (y - x)).flatten(1).sum(1) > 0).all(),
        "a gradient step moves away from the target",
        "check the sign of loss",
    )


def missing_labels_are_ignored(s: ModalityUnderTest) -> None:
    """unlabelled joints (NaN in the target) keep loss and gradient finite"""
    if s.modality.geometry not in ("points2d", "points3d"):
        skip_check("not a modality of joints")
    target, pred = s.fake(0), s.fake(1).requires_grad_()
    target[0, 1] = float("nan")
    loss = s.modality.loss(pred, target)
    (grad,) = torch.autograd.grad(loss.sum(), pred)
    fix = "give such joints the weight 0 before subtracting (cvhpe.models.losses.points_loss does)"
    require(loss.isfinite().all() and grad.isfinite().all(), "an unlabelled joint (NaN) makes the loss NaN", fix)
    require((grad[0, 1] == 0).all(), "an unlabelled joint has a gradient", fix)


def fused_loss_agrees(s: ModalityUnderTest) -> None:
    """fused_loss(pred, stored, view) equals loss(pred, augment(stored, view)), gradient included"""
    if s.modality.fused_loss is None:
        skip_check("has no fused_loss")
    stored = s.modality.stored(s.fields())
    n = len(stored)
    view, pred = random_view(n, generator(2), margin=MARGIN), s.fake(1, n)
    fused_loss = s.modality.fused_loss
    losses: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda p: fused_loss(p, stored, view),
        lambda p: s.modality.loss(p, s.modality.augment(stored, view)),
    )
    results = []
    for loss in losses:
        p = pred.clone().requires_grad_()
        value = loss(p)
        require(value.shape == (n,), f"fused_loss gave the shape {tuple(value.shape)}", "one number a sample: [B]")
        results.append((value.detach(), torch.autograd.grad(value.sum(), p)[0]))
    for what, fused, separate in zip(("value", "gradient"), *results, strict=True):
        gap = (fused - separate).abs().max().item()
        require(
            torch.allclose(fused, separate, rtol=1e-3, atol=1e-5 * (1 + separate.abs().max().item())),
            f"the {what} of fused_loss differs by {gap:.3g} from that of augment followed by loss",
            "make both compute the same, or drop fused_loss",
        )


def metrics_are_per_sample(s: ModalityUnderTest) -> None:
    """every metric(pred, target) is [B] and finite"""
    if not s.modality.metrics:
        skip_check("has no metrics")
    for name, metric in s.modality.metrics.items():
        value = metric(s.fake(1), s.fake(0))
        require(
            isinstance(value, Tensor) and value.shape == (BATCH,),
            f"metric {name!r} gave {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}",
            f"return one number a sample, [{BATCH}] here",
        )
        require(value.isfinite().all(), f"metric {name!r} is NaN or infinite", "check for divisions by zero")


def draw_plots_a_sample(s: ModalityUnderTest) -> None:
    """draw(axes, sample) plots a numpy sample on matplotlib axes"""
    if s.modality.draw is None:
        skip_check("has no draw")
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot(projection="3d" if s.modality.geometry == "points3d" else None)
    empty = len(axes.get_children())
    s.modality.draw(axes, s.fake()[0].numpy())
    require(len(axes.get_children()) > empty, "draw plotted nothing on the axes", "plot on the given axes")
    figure.canvas.draw()


def is_picklable(s: ModalityUnderTest) -> None:
    """the modality can be pickled and deep-copied, as worker processes need"""
    copies: tuple[tuple[str, Callable[[], Modality]], ...] = (
        ("pickled", lambda: pickle.loads(pickle.dumps(s.modality))),
        ("deep-copied", lambda: copy.deepcopy(s.modality)),
    )
    for what, make in copies:
        try:
            copied = make()
        except Exception as error:
            fail_check(
                f"cannot be {what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                "use functions and classes of the module's top level, with functools.partial; no lambda, no closure",
            )
        require(
            torch.equal(copied.fake(2, generator()), s.modality.fake(2, generator())),
            f"gives other samples after being {what}",
            "keep no state",
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a, b) or (a.is_floating_point() and torch.equal(a.nan_to_num(), b.nan_to_num())))


TESTS = (
    fake_is_valid,
    fake_is_seeded,
    sizes_follow_the_run,
    stored_batch_is_augmented,
    loss_is_per_sample,
    loss_is_least_at_the_target,
    loss_is_differentiable,
    missing_labels_are_ignored,
    fused_loss_agrees,
    metrics_are_per_sample,
    draw_plots_a_sample,
    is_picklable,
)
