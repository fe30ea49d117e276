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
from cvhpe.testing.check import CheckFailed, fail_check, require
from cvhpe.testing.fakes import generator, random_view
from cvhpe.testing.modality_under_test import BATCH, LATENT, ModalityUnderTest


def encoder_gives_a_posterior(s: ModalityUnderTest) -> None:
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


def decoder_gives_a_sample(s: ModalityUnderTest) -> None:
    """the decoder maps z [B, latent_dim] to a finite [B, *shape], for every latent_dim"""
    for latent_dim in (LATENT, LATENT + 4):
        y = s.decoder(latent_dim)(s.latent(latent_dim=latent_dim))
        require(
            y.shape == (BATCH, *s.modality.shape),
            f"the decoder gave {tuple(y.shape)}, shape says {(BATCH, *s.modality.shape)}",
            "end in a layer of that shape, e.g. nn.Unflatten(1, shape)",
        )
        require(y.isfinite().all(), "the decoder gave NaN or infinite values", "check the network's last layer")


def every_parameter_gets_a_gradient(s: ModalityUnderTest) -> None:
    """every parameter of encoder and decoder gets a finite gradient, as distributed training requires"""
    enc, dec = s.encoder(), s.decoder()
    x = s.fake()
    q = enc(x, s.side())
    z = q.mu + torch.exp(0.5 * q.logvar) * s.latent()
    (s.modality.loss(dec(z), x).mean() + q.mu.square().mean() + q.logvar.square().mean()).backward()
    for module, what in ((enc, "encoder"), (dec, "decoder")):
        named = list(module.named_parameters())
        require(
            named, f"the {what} has no parameters", "keep layers as attributes of an nn.Module or in an nn.ModuleList"
        )
        dead = [n for n, p in named if p.requires_grad and p.grad is None]
        require(
            not dead,
            f"no gradient for {what} parameters {', '.join(dead[:4])}",
            "use them in forward, or remove them",
        )
        bad = [n for n, p in named if p.grad is not None and not p.grad.isfinite().all()]
        require(
            not bad, f"NaN or infinite gradient for {what} parameters {', '.join(bad[:4])}", "check for 0/0 and log(0)"
        )


def samples_do_not_leak(s: ModalityUnderTest) -> None:
    """in eval mode and in augment, the output of a sample depends on that sample alone"""
    enc, dec = s.encoder().eval(), s.decoder().eval()
    row = torch.arange(BATCH) == 2  # a middle sample: neither the first nor the last
    x, z, side, view = s.fake(), s.latent(), s.side(), random_view(BATCH, generator(1))
    x2, z2, side2 = (
        _replace_others(row, x, s.fake(9)),
        _replace_others(row, z, -z),
        _replace_others(row, side, 1 - side),
    )
    other_view = random_view(BATCH, generator(2))
    view2 = view.map(lambda name, t: _replace_others(row, t, getattr(other_view, name)))
    fix = "reduce and normalise within each sample; batch statistics belong in nn.BatchNorm, which eval() freezes"
    with torch.no_grad():
        for what, output, other, alone in (
            ("encoder", enc(x, side).mu, enc(x2, side2).mu, enc(x[row], side[row]).mu),
            ("decoder", dec(z), dec(z2), dec(z[row])),
            (
                "augment",
                s.modality.augment(x, view),
                s.modality.augment(x2, view2),
                s.modality.augment(x[row], view.select(row)),
            ),
        ):
            for changed, how in ((other[row], "with other samples in the batch"), (alone, "alone in the batch")):
                gap = (output[row] - changed).abs().max().item()
                limit = 1e-4 * (1 + output[row].abs().max().item())
                require(gap <= limit, f"{what}: the output of a sample changes by {gap:.3g} {how}", fix)


def modules_are_seeded(s: ModalityUnderTest) -> None:
    """torch.manual_seed alone determines the initial weights"""
    for make, what in ((s.encoder, "encoder"), (s.decoder, "decoder")):
        a, b = make().state_dict(), make().state_dict()
        differ = [k for k in a if not torch.equal(a[k], b[k])]
        require(
            not differ,
            f"the {what}'s {', '.join(differ[:3])} differ under one seed",
            "sample weights with torch, not with numpy or random",
        )


def modules_survive_copying(s: ModalityUnderTest) -> None:
    """modules give the same output after pickling, deep copies and a state-dict round trip"""
    calls: tuple[tuple[str, Callable[[], nn.Module], Callable[[nn.Module], Tensor]], ...] = (
        ("encoder", lambda: s.modality.encoder(LATENT), lambda e: e(s.fake(), s.side()).mu),
        ("decoder", lambda: s.modality.decoder(LATENT), lambda d: d(s.latent())),
    )
    for what, make, call in calls:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(11)
            module = make().eval()
            expected = call(module)
            try:
                copies = {"a pickle": pickle.loads(pickle.dumps(module)), "a deep copy": copy.deepcopy(module)}
            except Exception as error:
                fail_check(
                    f"the {what} cannot be copied: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                    "keep lambdas and open files out of modules",
                )
            copies["a state dict"] = make().eval()
            copies["a state dict"].load_state_dict(module.state_dict())
            for how, copied in copies.items():
                require(
                    torch.allclose(call(copied), expected, rtol=1e-4, atol=1e-5),
                    f"the {what} gives another output after {how}",
                    "register every tensor: nn.Parameter, register_buffer, nn.ModuleList instead of a plain list",
                )


def bfloat16_works(s: ModalityUnderTest) -> None:
    """encoder, decoder and loss work under bfloat16 autocast, close to float32"""
    enc, dec, x = s.encoder().eval(), s.decoder().eval(), s.fake()
    with torch.no_grad():
        exact = (enc(x, s.side()).mu, dec(s.latent()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q, y = enc(x, s.side()), dec(s.latent())
        loss = s.modality.loss(y, x)
    for what, value, expected in (("encoder", q.mu, exact[0]), ("decoder", y, exact[1])):
        require(value.isfinite().all(), f"the {what} overflows in bfloat16", "keep sums and exponentials small")
        gap = (value.float() - expected).abs().mean() / (expected.abs().mean() + 1e-3)
        require(gap < 0.25, f"the {what} is off by {gap:.0%} in bfloat16", "do sensitive steps in float32: x.float()")
    require(loss.isfinite().all(), "the loss is not finite for a bfloat16 prediction", "start with pred.float()")
    (loss.mean() + q.mu.float().mean() + q.logvar.float().mean()).backward()


def exports(s: ModalityUnderTest) -> None:
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
            fail_check(
                f"torch.export refuses the {what}: {type(error).__name__}: {text}",
                "no Python numbers out of tensors, no branches on values, no fixed batch size",
            )
        with torch.no_grad():
            for n in (2, BATCH + 1):
                result, expected = program(*inputs(n)), module(*inputs(n))
                pairs = zip(result, expected, strict=True) if isinstance(expected, tuple) else [(result, expected)]
                for a, b in pairs:
                    require(
                        torch.allclose(a, b, rtol=1e-3, atol=1e-4),
                        f"the exported {what} gives another output",
                        "keep forward free of side effects and of randomness",
                    )


def follows_the_device(s: ModalityUnderTest) -> None:
    """networks, loss and augment run on the device of their inputs: a GPU, or a simulated one"""
    fix = "make constants buffers (register_buffer), or create them with device=x.device"
    try:
        if torch.cuda.is_available():
            _run_on_gpu(s, lambda t: t.to("cuda"))
            return
        # Fake tensors have a device but no values; an operation on tensors of two devices raises.
        with FakeTensorMode() as mode, _quiet_ops_logger():
            _run_on_gpu(s, lambda t: mode.from_tensor(t).to("cuda"))
    except CheckFailed:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if "convert all Tensors to FakeTensors" in text:
            text = "an operation mixes it with a tensor on the CPU"
        fail_check(f"cannot run on a GPU: {text[:200]}", fix)


@contextmanager
def _quiet_ops_logger() -> Iterator[None]:
    """Silence the warning that this build has no kernels for the simulated device."""
    log = logging.getLogger("cvhpe.ops")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _run_on_gpu(s: ModalityUnderTest, move: Callable[[Tensor], Tensor]) -> None:
    with unset_fake_temporarily():
        enc, dec = s.encoder(), s.decoder()
        x, side, z, view = s.fake(), s.side(), s.latent(), random_view(BATCH, generator(1))
    x, side, z, view = move(x), move(side), move(z), view.map(lambda _, t: move(t))
    q = functional_call(enc, _state(enc, move), (x, side))
    y = functional_call(dec, _state(dec, move), (z,))
    results = (
        ("encoder", q.mu),
        ("decoder", y),
        ("loss", s.modality.loss(y, x)),
        ("augment", s.modality.augment(x, view)),
    )
    for what, value in results:
        require(value.device == x.device, f"{what} moved its batch to {value.device}", "no .cpu(), .to(device) in it")


def _state(module: nn.Module, move: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {k: move(t) for k, t in (*module.named_parameters(), *module.named_buffers())}


def _replace_others(row: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """``own`` where ``row`` is True, ``others`` elsewhere."""
    return torch.where(row.view(-1, *[1] * (own.ndim - 1)), own, others)


TESTS = (
    encoder_gives_a_posterior,
    decoder_gives_a_sample,
    every_parameter_gets_a_gradient,
    samples_do_not_leak,
    modules_are_seeded,
    modules_survive_copying,
    bfloat16_works,
    exports,
    follows_the_device,
)
