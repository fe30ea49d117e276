"""Faulty versions of the valid modalities; ``FAULTS`` maps each conformance check to those it must catch."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import torch
from helpers.example_modalities import (
    DOTS,
    VALID_DOTS,
    VALID_GREY,
    DotsEncoder,
    dots_augment,
    dots_decoder,
    dots_fake,
    dots_fused,
    dots_loss,
    grey_augment,
    grey_loss,
)
from torch import Tensor, nn

from cvhpe import Modality, ModelShape, Posterior, View


def fake_of_another_shape(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 5, 3, generator=generator)


def fake_in_float64(n: int, generator: torch.Generator) -> Tensor:
    return dots_fake(n, generator).double()


def fake_with_nan(n: int, generator: torch.Generator) -> Tensor:
    return dots_fake(n, generator).log()


def fake_all_alike(n: int, generator: torch.Generator) -> Tensor:
    return dots_fake(1, generator).repeat(n, 1, 1)


def fake_unseeded(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, *DOTS)


def fake_constant(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, *DOTS, generator=torch.Generator().manual_seed(0))


def configure_to_another_name(modality: Modality, shape: ModelShape) -> Modality:
    return dataclasses.replace(modality, name=f"grey{shape.image_size}")


def configure_forgetting_the_size(modality: Modality, shape: ModelShape) -> Modality:
    return modality


def derive_in_place(fields: dict[str, Tensor]) -> Tensor:
    fields["joints2d"] += 1
    return fields["joints2d"][:, :5]


def derive_everything(fields: dict[str, Tensor]) -> Tensor:
    return fields["joints2d"]


def loss_over_the_batch(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).square().mean()


def loss_normalised_over_the_batch(pred: Tensor, target: Tensor) -> Tensor:
    return grey_loss(pred, target) / target.std()


def loss_with_the_wrong_sign(pred: Tensor, target: Tensor) -> Tensor:
    return -dots_loss(pred, target)


def loss_of_the_mean(pred: Tensor, target: Tensor) -> Tensor:
    return (pred.flatten(1).mean(1) - target.flatten(1).mean(1) - 0.5).square()


def loss_in_numpy(pred: Tensor, target: Tensor) -> Tensor:
    return torch.from_numpy(np.square(pred.detach().numpy() - target.numpy())).flatten(1).mean(1)


def loss_with_a_root(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).square().flatten(1).sum(1).sqrt()


def loss_blind_to_missing_labels(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).square().flatten(1).mean(1)


def fused_without_the_view(pred: Tensor, stored: Tensor, view: View) -> Tensor:
    return dots_loss(pred, stored)


def fused_without_gradient(pred: Tensor, stored: Tensor, view: View) -> Tensor:
    return dots_fused(pred, stored, view).detach() + 0 * pred.flatten(1).sum(1)


def metric_over_the_batch(pred: Tensor, target: Tensor) -> float:
    return (pred - target).abs().max().item()


def draw_nothing(axes, sample, **style) -> None:
    pass


class TupleEncoder(DotsEncoder):
    def forward(self, x: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return tuple(super().forward(x, side))


class StubbornEncoder(DotsEncoder):
    """Ignores ``latent_dim``."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(8)


class OverflowingEncoder(DotsEncoder):
    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        q = super().forward(x, side)
        return Posterior(q.mu, q.logvar + 200)


class SidelessEncoder(DotsEncoder):
    def forward(self, x: Tensor) -> Posterior:  # type: ignore[override]
        return super().forward(x, x.new_zeros(len(x), 2))


def flat_decoder(latent_dim: int) -> nn.Module:
    return nn.Linear(latent_dim, 10)


class HalfUsedEncoder(DotsEncoder):
    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.spare = nn.Linear(3, 3)


class ExplodingDecoder(nn.Module):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.body = dots_decoder(latent_dim)
        self.power = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z) + self.power.sqrt()


class BatchCentringEncoder(DotsEncoder):
    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        return super().forward(x - x.mean(0), side)


def augment_by_the_first_view(x: Tensor, view: View) -> Tensor:
    return dots_augment(x, view.select(torch.zeros(len(view), dtype=torch.long)))


class NumpySeededEncoder(DotsEncoder):
    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.mu.weight.data.copy_(torch.from_numpy(np.random.default_rng().normal(size=self.mu.weight.shape)))


class ForgetfulEncoder(DotsEncoder):
    """Keeps a random tensor that its state dict does not hold."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.offset = torch.randn(10)

    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        return super().forward(x + self.offset.view(DOTS), side)


class LambdaEncoder(DotsEncoder):
    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.twist = lambda x: x + 0.0

    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        return super().forward(self.twist(x), side)


class CancellingEncoder(DotsEncoder):
    """Takes the difference of two large numbers."""

    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        q = super().forward(x, side)
        large = torch.full((1, 1), 512.0, device=x.device)
        return Posterior((q.mu.to(self.mu(side.new_zeros(1, 34)).dtype) + large.to(q.mu.dtype)) - large, q.logvar)


class BranchingEncoder(DotsEncoder):
    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        return super().forward(x if x.mean().item() > 0 else 2 * x, side)


class HomeboundEncoder(DotsEncoder):
    """Creates a constant on the CPU, whatever the device of the batch."""

    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        return super().forward(x * torch.linspace(1, 2, 5)[:, None], side)


class NumpyEncoder(DotsEncoder):
    def forward(self, x: Tensor, side: Tensor) -> Posterior:
        return super().forward(torch.from_numpy(np.clip(x.detach().numpy(), -1, 1)), side)


def augment_in_place(x: Tensor, view: View) -> Tensor:
    x += view.shift[:, None]
    return dots_augment(x - view.shift[:, None], view)


def augment_always_shifting(x: Tensor, view: View) -> Tensor:
    return dots_augment(x, view) + 0.01


def augment_sliding_at_a_flip(x: Tensor, view: View) -> Tensor:
    y = dots_augment(x, view)
    return torch.where(view.flip[:, None, None], y + torch.tensor([0.0, 0.05]), y)


def dots(**change) -> Modality:
    return dataclasses.replace(VALID_DOTS, **change)


def grey(**change) -> Modality:
    return dataclasses.replace(VALID_GREY, configure=None, **change)


def grey_wrong(**how: bool) -> Modality:
    return grey(augment=partial(grey_augment, size=64, **how))


def negate_angle(view: View) -> View:
    return dataclasses.replace(view, angle=-view.angle)


def grey_with_negated_angle(x: Tensor, view: View) -> Tensor:
    return grey_augment(x, negate_angle(view), size=64)


def dots_without_view_when_stored(x: Tensor, view: View) -> Tensor:
    """Ignores the view for a stored batch, recognised by its values above 10."""
    return x - 100 if x.mean() > 10 else dots_augment(x, view)


def dots_derive_offset(fields: dict[str, Tensor]) -> Tensor:
    return fields["joints2d"][:, :5] + 100


FAULTS: dict[str, list[Modality]] = {
    "fake_is_valid": [
        dots(fake=fake_of_another_shape),
        dots(fake=fake_in_float64),
        dots(fake=fake_with_nan),
        dots(fake=fake_all_alike),
    ],
    "fake_is_seeded": [dots(fake=fake_unseeded), dots(fake=fake_constant)],
    "sizes_follow_the_run": [
        dataclasses.replace(VALID_GREY, configure=configure_to_another_name),
        dataclasses.replace(VALID_GREY, configure=configure_forgetting_the_size),
    ],
    "stored_batch_is_augmented": [dots(derive=derive_in_place), dots(derive=derive_everything)],
    "loss_is_per_sample": [grey(loss=loss_over_the_batch), grey(loss=loss_normalised_over_the_batch)],
    "loss_is_least_at_the_target": [dots(loss=loss_with_the_wrong_sign), dots(loss=loss_of_the_mean)],
    "loss_is_differentiable": [
        dots(loss=loss_in_numpy),
        dots(loss=loss_with_a_root),
        dots(loss=loss_with_the_wrong_sign),
    ],
    "missing_labels_are_ignored": [dots(loss=loss_blind_to_missing_labels)],
    "fused_loss_agrees": [dots(fused_loss=fused_without_the_view), dots(fused_loss=fused_without_gradient)],
    "metrics_are_per_sample": [dots(metrics={"worst": metric_over_the_batch})],
    "draw_plots_a_sample": [dots(draw=draw_nothing)],
    "is_picklable": [dots(loss=lambda pred, target: dots_loss(pred, target))],
    "encoder_gives_a_posterior": [
        dots(encoder=TupleEncoder),
        dots(encoder=StubbornEncoder),
        dots(encoder=OverflowingEncoder),
        dots(encoder=SidelessEncoder),
    ],
    "decoder_gives_a_sample": [dots(decoder=flat_decoder)],
    "every_parameter_gets_a_gradient": [dots(encoder=HalfUsedEncoder), dots(decoder=ExplodingDecoder)],
    "samples_do_not_leak": [dots(encoder=BatchCentringEncoder), dots(augment=augment_by_the_first_view)],
    "modules_are_seeded": [dots(encoder=NumpySeededEncoder)],
    "modules_survive_copying": [dots(encoder=ForgetfulEncoder), dots(encoder=LambdaEncoder)],
    "bfloat16_works": [dots(encoder=CancellingEncoder)],
    "exports": [dots(encoder=BranchingEncoder)],
    "follows_the_device": [dots(encoder=HomeboundEncoder), dots(encoder=NumpyEncoder)],
    "augment_leaves_its_input_alone": [dots(augment=augment_in_place)],
    "identity_view_changes_nothing": [dots(augment=augment_always_shifting), grey_wrong(corner=True)],
    "flip_twice_is_the_identity": [dots(augment=augment_sliding_at_a_flip)],
    "augment_follows_the_view": [
        dots(augment=partial(dots_augment, sign=-1.0)),
        dots(augment=partial(dots_augment, grow=-1.0)),
        dots(augment=partial(dots_augment, flip=False)),
        grey(augment=grey_with_negated_angle),
        grey_wrong(corner=True),
    ],
    "stored_batch_follows_the_view": [
        dots(derive=dots_derive_offset, augment=dots_without_view_when_stored),
        grey_wrong(margin=False),
    ],
}
