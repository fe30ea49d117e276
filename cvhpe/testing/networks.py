"""Checks of a modality's encoder and decoder."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.func import functional_call

from cvhpe.plugin.contract import Posterior
from cvhpe.testing.check import CheckFailed, fail, require
from cvhpe.testing.fakes import generator, mapped, random_view
from cvhpe.testing.subject import BATCH, LATENT, Subject


def encoder_gives_a_posterior(s: Subject) -> None:
    """the encoder gives Posterior(mu, logvar), both [B, latent_dim], for every latent_dim"""
    for latent_dim in (LATENT, LATENT + 4):
        q = s.encoder(latent_dim)(s.fake(), s.side())
        require(
            isinstance(q, Posterior),
            f"the encoder gave {type(q).__name__}",
            "return cvhpe.Posterior(mu, logvar); cvhpe.models.blocks.PosteriorHead makes one of features and side",
        )
        for name, value in zip(q._fields, q, strict=True):
            require(
                value.shape == (BATCH, latent_dim),
                f"{name} has the shape {tuple(value.shape)} where latent_dim is {latent_dim} and the batch {BATCH}",
                "make both [B, latent_dim], out of the latent_dim that encoder(latent_dim) is given",
            )
            require(value.isfinite().all(), f"{name} is NaN or infinite", "check the network's first and last layer")
        require(q.logvar.exp().isfinite().all(), "exp(logvar) overflows", "start with a small logvar, or bound it")


def decoder_gives_a_sample(s: Subject) -> None:
    """the decoder turns z [B, latent_dim] into a finite [B, *shape], for every latent_dim"""
    for latent_dim in (LATENT, LATENT + 4):
        y = s.decoder(latent_dim)(s.latent(latent_dim=latent_dim))
        require(
            y.shape == (BATCH, *s.m.shape),
            f"the decoder gave {tuple(y.shape)}, shape says {(BATCH, *s.m.shape)}",
            "end in a layer of that shape, e.g. nn.Unflatten(1, shape)",
        )
        require(y.isfinite().all(), "the decoder gave NaN or infinite values", "check the network's last layer")


def every_parameter_gets_a_gradient(s: Subject) -> None:
    """every parameter of encoder and decoder gets a finite gradient, which distributed training waits for"""
    enc, dec = s.encoder(), s.decoder()
    x = s.fake()
    q = enc(x, s.side())
    z = q.mu + torch.exp(0.5 * q.logvar) * s.latent()
    (s.m.loss(dec(z), x).mean() + q.mu.square().mean() + q.logvar.square().mean()).backward()
    for module, what in ((enc, "encoder"), (dec, "decoder")):
        named = list(module.named_parameters())
        require(
            named, f"the {what} has no parameters", "keep layers as attributes of an nn.Module or in an nn.ModuleList"
        )
        dead = [n for n, p in named if p.requires_grad and p.grad is None]
        require(
            not dead,
            f"no gradient for {what} parameters {', '.join(dead[:4])}",
            "use them in forward, or take them out",
        )
        bad = [n for n, p in named if p.grad is not None and not p.grad.isfinite().all()]
        require(
            not bad, f"NaN or infinite gradient for {what} parameters {', '.join(bad[:4])}", "check for 0/0 and log(0)"
        )


def samples_do_not_leak(s: Subject) -> None:
    """in eval mode and in augment, what comes out for a sample depends on that sample alone"""
    enc, dec = s.encoder().eval(), s.decoder().eval()
    it = torch.arange(BATCH) == 2  # a sample in the middle: neither the first nor the last may be special
    x, z, side, view = s.fake(), s.latent(), s.side(), random_view(BATCH, generator(1))
    x2, z2, side2 = _but_one(it, x, s.fake(9)), _but_one(it, z, -z), _but_one(it, side, 1 - side)
    other_view = random_view(BATCH, generator(2))
    view2 = mapped(view, lambda name, t: _but_one(it, t, getattr(other_view, name)))
    mend = "reduce and normalise within each sample; batch statistics belong in nn.BatchNorm, which eval() freezes"
    with torch.no_grad():
        for what, one, other, alone in (
            ("encoder", enc(x, side).mu, enc(x2, side2).mu, enc(x[it], side[it]).mu),
            ("decoder", dec(z), dec(z2), dec(z[it])),
            ("augment", s.m.augment(x, view), s.m.augment(x2, view2), s.m.augment(x[it], view.select(it))),
        ):
            for twin, how in ((other[it], "other samples beside it"), (alone, "no sample beside it")):
                gap = (one[it] - twin).abs().max().item()
                limit = 1e-4 * (1 + one[it].abs().max().item())
                require(gap <= limit, f"{what}: a sample comes out otherwise by {gap:.3g} with {how}", mend)


def modules_are_seeded(s: Subject) -> None:
    """torch.manual_seed alone decides the first weights"""
    for make, what in ((s.encoder, "encoder"), (s.decoder, "decoder")):
        a, b = make().state_dict(), make().state_dict()
        differ = [k for k in a if not torch.equal(a[k], b[k])]
        require(
            not differ,
            f"the {what}'s {', '.join(differ[:3])} differ under one seed",
            "draw weights with torch, not with numpy or random",
        )


def modules_are_copied_whole(s: Subject) -> None:
    """modules survive pickling, deep copies and a state-dict round trip with the same output"""
    calls: tuple[tuple[str, Callable[[], nn.Module], Callable[[nn.Module], Tensor]], ...] = (
        ("encoder", lambda: s.m.encoder(LATENT), lambda e: e(s.fake(), s.side()).mu),
        ("decoder", lambda: s.m.decoder(LATENT), lambda d: d(s.latent())),
    )
    for what, make, call in calls:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(11)
            module = make().eval()
            expected = call(module)
            try:
                twins = {"a pickle": pickle.loads(pickle.dumps(module)), "a deep copy": copy.deepcopy(module)}
            except Exception as error:
                fail(
                    f"the {what} cannot be copied: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                    "keep lambdas and open files out of modules",
                )
            twins["a state dict"] = make().eval()
            twins["a state dict"].load_state_dict(module.state_dict())
            for how, twin in twins.items():
                require(
                    torch.allclose(call(twin), expected, rtol=1e-4, atol=1e-5),
                    f"the {what} is another one after {how}",
                    "register every tensor: nn.Parameter, register_buffer, nn.ModuleList instead of a plain list",
                )


def bfloat16_works(s: Subject) -> None:
    """encoder, decoder and loss work under bfloat16 autocast, near what float32 gives"""
    enc, dec, x = s.encoder().eval(), s.decoder().eval(), s.fake()
    with torch.no_grad():
        whole = (enc(x, s.side()).mu, dec(s.latent()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q, y = enc(x, s.side()), dec(s.latent())
        loss = s.m.loss(y, x)
    for what, value, exact in (("encoder", q.mu, whole[0]), ("decoder", y, whole[1])):
        require(value.isfinite().all(), f"the {what} overflows in bfloat16", "keep sums and exponentials small")
        gap = (value.float() - exact).abs().mean() / (exact.abs().mean() + 1e-3)
        require(gap < 0.25, f"the {what} is off by {gap:.0%} in bfloat16", "do sensitive steps in float32: x.float()")
    require(loss.isfinite().all(), "the loss is not finite for a bfloat16 prediction", "start with pred.float()")
    (loss.mean() + q.mu.float().mean() + q.logvar.float().mean()).backward()


def exports(s: Subject) -> None:
    """torch.export takes encoder and decoder with any batch size, as `cvhpe export` needs"""
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    calls: tuple[tuple[str, nn.Module, Callable[[int], tuple[Tensor, ...]]], ...] = (
        ("encoder", s.encoder().eval(), lambda n: (s.fake(n=n), s.side(n))),
        ("decoder", s.decoder().eval(), lambda n: (s.latent(n),)),
    )
    for what, module, inputs in calls:
        args = inputs(BATCH)
        try:
            program = torch.export.export(module, args, dynamic_shapes=tuple(batch for _ in args)).module()
        except Exception as error:
            text = " ".join(str(error).split())[:240]
            fail(
                f"torch.export refuses the {what}: {type(error).__name__}: {text}",
                "no Python numbers out of tensors, no branches on values, no fixed batch size",
            )
        with torch.no_grad():
            for n in (2, BATCH + 1):
                got, expected = program(*inputs(n)), module(*inputs(n))
                pairs = zip(got, expected, strict=True) if isinstance(expected, tuple) else [(got, expected)]
                for a, b in pairs:
                    require(
                        torch.allclose(a, b, rtol=1e-3, atol=1e-4),
                        f"the exported {what} gives something else",
                        "keep forward free of side effects and of randomness",
                    )


def follows_the_device(s: Subject) -> None:
    """networks, loss and augment work where their inputs are: on a GPU, or on a simulated one"""
    mend = "make constants buffers (register_buffer), or create them with device=x.device"
    try:
        if torch.cuda.is_available():
            _run_on_gpu(s, lambda t: t.to("cuda"))
            return
        # Nothing is computed: tensors carry a device, and an operation that mixes two of them is refused.
        with FakeTensorMode() as mode, _without_remarks():
            _run_on_gpu(s, lambda t: mode.from_tensor(t).to("cuda"))
    except CheckFailed:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if "convert all Tensors to FakeTensors" in text:
            text = "meets a tensor that stays on the CPU"
        fail(f"cannot run on a GPU: {text[:200]}", mend)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """That this build has no kernels for a device that is only simulated is no news to a plugin's author."""
    log = logging.getLogger("cvhpe.ops")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _run_on_gpu(s: Subject, move: Callable[[Tensor], Tensor]) -> None:
    with unset_fake_temporarily():
        enc, dec = s.encoder(), s.decoder()
        x, side, z, view = s.fake(), s.side(), s.latent(), random_view(BATCH, generator(1))
    x, side, z, view = move(x), move(side), move(z), mapped(view, lambda _, t: move(t))
    q = functional_call(enc, _state(enc, move), (x, side))
    y = functional_call(dec, _state(dec, move), (z,))
    results = (("encoder", q.mu), ("decoder", y), ("loss", s.m.loss(y, x)), ("augment", s.m.augment(x, view)))
    for what, value in results:
        require(value.device == x.device, f"{what} moved its batch to {value.device}", "no .cpu(), .to(device) in it")


def _state(module: nn.Module, move: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {k: move(t) for k, t in (*module.named_parameters(), *module.named_buffers())}


def _but_one(it: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """``own`` where ``it`` is set, ``others`` elsewhere."""
    return torch.where(it.view(-1, *[1] * (own.ndim - 1)), own, others)


TESTS = (
    encoder_gives_a_posterior,
    decoder_gives_a_sample,
    every_parameter_gets_a_gradient,
    samples_do_not_leak,
    modules_are_seeded,
    modules_are_copied_whole,
    bfloat16_works,
    exports,
    follows_the_device,
)
