"""Checks of what a modality makes and compares: fake and stored samples, loss, metrics, drawing."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from unittest import SkipTest

import torch
from torch import Tensor

from cvhpe.plugin.contract import Modality, ModelShape, View
from cvhpe.testing.check import fail, require
from cvhpe.testing.fakes import generator, random_view
from cvhpe.testing.subject import BATCH, MARGIN, Subject


def fake_is_valid(s: Subject) -> None:
    """fake(n, generator) gives n finite, differing float32 samples of the modality's shape"""
    for n in (1, BATCH):
        x = s.fake(n=n)
        require(
            x.shape == (n, *s.m.shape),
            f"fake gave the shape {tuple(x.shape)}, shape says {(n, *s.m.shape)}",
            "return torch.rand(n, *shape, generator=generator) or the like, or correct `shape`",
        )
        require(x.dtype == torch.float32, f"fake gave {x.dtype}", "fake is network-ready data: return float32")
        require(x.isfinite().all(), "fake gave NaN or infinite values", "return finite values")
    x = s.fake()
    require(
        (x[0] != x[1]).any() and (x.amax() > x.amin()),
        "fake gave samples that are all alike",
        "draw every sample anew, so that tests can tell one from another",
    )


def fake_is_seeded(s: Subject) -> None:
    """fake draws from the generator it is given and from nothing else"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        x = s.fake(0)
        torch.manual_seed(2)
        y, z = s.fake(0), s.fake(1)
    require(
        torch.equal(x, y), "the same seed gave other fakes", "pass generator=generator to every torch.rand or randn"
    )
    require(not torch.equal(x, z), "another seed gave the same fakes", "use the generator that fake is given")


def sizes_follow_the_run(s: Subject) -> None:
    """configure(modality, ModelShape) gives the same modality in other sizes"""
    if s.given.configure is None:
        raise SkipTest("has no configure: one size only")
    for size in (64, 128):
        m = s.given.sized(ModelShape(image_size=size))
        require(isinstance(m, Modality), f"configure gave {type(m).__name__}", "return a Modality")
        require(
            (m.name, m.reads, m.units, m.geometry) == (s.given.name, s.given.reads, s.given.units, s.given.geometry),
            "configure changed the name, reads, units or geometry",
            "use dataclasses.replace(modality, shape=..., encoder=..., ...)",
        )
        require(m.configure is not None, "configure lost itself", "keep `configure` in what it returns")
        x = m.fake(1, generator())
        require(
            x.shape[1:] == m.shape,
            f"fake gave {tuple(x.shape[1:])} at size {size}, shape says {m.shape}",
            "make both follow",
        )
        if s.given.geometry == "image":
            require(
                m.shape[1:] == (size, size),
                f"shape is {m.shape} for pictures of {size} pixels",
                "follow shape.image_size",
            )


def stored_batch_is_augmented(s: Subject) -> None:
    """augment turns the stored batch into finite float samples [B, *shape], and derive leaves its fields alone"""
    fields = s.fields()
    before = {k: v.clone() for k, v in fields.items()}
    stored = s.m.stored(fields)
    changed = [k for k, v in fields.items() if not _same(v, before[k])]
    require(
        not changed,
        f"derive changed the field {', '.join(changed)} in place",
        "work on a copy; other modalities read it too",
    )
    n = len(next(iter(fields.values())))
    y = s.m.augment(stored, replace(View.identity(n), margin=MARGIN))
    require(
        y.shape == (n, *s.m.shape),
        f"augment made {tuple(y.shape)} of a stored batch {tuple(stored.shape)}, shape says {(n, *s.m.shape)}",
        "augment takes both a stored batch (telling by dtype) and a network-ready one, and gives [B, *shape]",
    )
    require(y.is_floating_point(), f"augment of a stored batch gave {y.dtype}", "convert to float and normalise there")
    require(y.isfinite().all(), "augment of a stored batch gave NaN or infinity", "mind holes and missing values")


def loss_is_per_sample(s: Subject) -> None:
    """loss(pred, target) is [B], finite and floating point, one number a sample"""
    x, y = s.fake(0), s.fake(1)
    loss = s.m.loss(y, x)
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
    alone = s.m.loss(y[:1], x[:1])
    require(
        torch.allclose(alone, loss[:1], rtol=1e-4, atol=1e-6),
        "a sample's loss depends on the others of the batch",
        "reduce each sample by itself",
    )


def loss_is_least_at_the_target(s: Subject) -> None:
    """loss is least where the prediction is the target"""
    x = s.fake(0)
    at = s.m.loss(x, x)
    noise = torch.randn(x.shape, generator=generator(5)) * x.std()
    for size in (0.01, -0.01, 0.1, -0.1, 1.0, -1.0):
        off = s.m.loss(x + size * noise, x)
        require(
            (off > at).all(),
            f"a prediction off by {size:g} deviations has the loss {off.min():.3g}, the target itself {at.max():.3g}",
            "use a distance, such as the mean square of pred - target; mind the order of the arguments and the sign",
        )


def loss_is_differentiable(s: Subject) -> None:
    """loss has a finite gradient in the prediction, at the target too, and points towards the target"""
    x, y = s.fake(0), s.fake(1)
    for what, start in (("at the target", x), ("away from the target", y)):
        pred = start.clone().requires_grad_()
        loss = s.m.loss(pred, x)
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
    require((grad != 0).any(), "the gradient away from the target is zero", "use a loss without steps")
    require(
        ((grad * (y - x)).flatten(1).sum(1) > 0).all(),
        "the gradient leads away from the target",
        "check the sign of loss",
    )


def missing_labels_are_left_out(s: Subject) -> None:
    """joints that are not labelled (NaN in the target) leave loss and gradient finite"""
    if s.m.geometry not in ("points2d", "points3d"):
        raise SkipTest("for joints only")
    target, pred = s.fake(0), s.fake(1).requires_grad_()
    target[0, 1] = float("nan")
    loss = s.m.loss(pred, target)
    (grad,) = torch.autograd.grad(loss.sum(), pred)
    mend = "give such joints the weight 0 before subtracting (cvhpe.models.losses.points_loss does)"
    require(loss.isfinite().all() and grad.isfinite().all(), "a joint that is not labelled (NaN) spoils the loss", mend)
    require((grad[0, 1] == 0).all(), "a joint that is not labelled has a gradient", mend)


def fused_loss_agrees(s: Subject) -> None:
    """fused_loss(pred, stored, view) equals loss(pred, augment(stored, view)), gradient included"""
    if s.m.fused_loss is None:
        raise SkipTest("has no fused_loss")
    stored = s.m.stored(s.fields())
    n = len(stored)
    view, pred = random_view(n, generator(2), margin=MARGIN), s.fake(1, n)
    fused_loss = s.m.fused_loss
    results = []
    for loss in (lambda p: fused_loss(p, stored, view), lambda p: s.m.loss(p, s.m.augment(stored, view))):
        p = pred.clone().requires_grad_()
        value = loss(p)
        require(value.shape == (n,), f"fused_loss gave the shape {tuple(value.shape)}", "one number a sample: [B]")
        results.append((value.detach(), torch.autograd.grad(value.sum(), p)[0]))
    for what, fused, apart in zip(("value", "gradient"), *results, strict=True):
        gap = (fused - apart).abs().max().item()
        require(
            torch.allclose(fused, apart, rtol=1e-3, atol=1e-5 * (1 + apart.abs().max().item())),
            f"the {what} of fused_loss is off by {gap:.3g} from augment and loss one after the other",
            "make both compute the same, or leave fused_loss out",
        )


def metrics_are_per_sample(s: Subject) -> None:
    """every metric(pred, target) is [B] and finite"""
    if not s.m.metrics:
        raise SkipTest("has no metrics")
    for name, metric in s.m.metrics.items():
        value = metric(s.fake(1), s.fake(0))
        require(
            isinstance(value, Tensor) and value.shape == (BATCH,),
            f"metric {name!r} gave {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}",
            f"return one number a sample, [{BATCH}] here",
        )
        require(value.isfinite().all(), f"metric {name!r} is NaN or infinite", "check for divisions by zero")


def draws(s: Subject) -> None:
    """draw(axes, sample) puts a numpy sample on matplotlib axes"""
    if s.m.draw is None:
        raise SkipTest("has no draw")
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot(projection="3d" if s.m.geometry == "points3d" else None)
    empty = len(axes.get_children())
    s.m.draw(axes, s.fake()[0].numpy())
    require(len(axes.get_children()) > empty, "draw put nothing on the axes", "draw on the axes given, not on pyplot")
    figure.canvas.draw()


def is_picklable(s: Subject) -> None:
    """the modality can be pickled and deep-copied, as worker processes need"""
    for what, make in (("pickled", lambda m: pickle.loads(pickle.dumps(m))), ("deep-copied", copy.deepcopy)):
        try:
            twin = make(s.m)
        except Exception as error:
            fail(
                f"cannot be {what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                "use functions and classes of the module's top level, with functools.partial; no lambda, no closure",
            )
        require(
            torch.equal(twin.fake(2, generator()), s.m.fake(2, generator())),
            f"is another one after being {what}",
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
    missing_labels_are_left_out,
    fused_loss_agrees,
    metrics_are_per_sample,
    draws,
    is_picklable,
)
