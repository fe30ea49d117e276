"""The settings of a training run: one validated, frozen record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cvhpe.errors import UserError, nearest

Protocol = Literal["T", "TS", "TH", "TSH"]
Recipe = Literal["paper", "best"]
ImageSize = Literal[64, 128, 256]
Backbone = Literal["resnet18", "resnet50", "keypoints"]
PROTOCOLS, RECIPES, IMAGE_SIZES, BACKBONES = map(get_args, (Protocol, Recipe, ImageSize, Backbone))


class Augmentation(BaseModel):
    """Ranges of the random views of a sample: the paper's rotation, shift and flip; its scale is constant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation_deg: float = Field(45.0, ge=0, le=180, description="rotation, uniform in [-this, this] degrees")
    shift: float = Field(0.05, ge=0, le=0.5, description="shift, uniform in [-this, this] of the crop's side")
    scale: float = Field(0.0, ge=0, le=0.5, description="scale, log-uniform in [1 / (1 + this), 1 + this]")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a flip, which swaps the hand side")
    pose_swap_prob: float = Field(
        0.0, ge=0, le=1, description="probability that a pose takes another sample's place; runs of joints alone"
    )
    keypoint_noise_px: float = Field(
        0.0, ge=0, description="largest standard deviation of the noise on 2D joints, px; half of the samples have none"
    )


class Config(BaseModel):
    """Every setting of a training run. Where the paper gives a value, it is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modalities: tuple[str, ...] = Field(("rgb", "joints3d"), description="the modalities of the run")
    pairs: tuple[str, ...] = Field((), description="INPUT:TARGET pairs; empty: those of the variant")
    variant: int = Field(3, ge=1, le=4, description="the paper's variant, if no pairs are named")
    data: tuple[str, ...] = Field(("synthetic",), description="NAME or NAME:PATH of each data set")
    recipe: Recipe = Field("paper", description="which set of defaults")
    protocol: Protocol = Field("TSH", description="T root-relative, S bone-scaled, H hand side given")

    latent_dim: int = Field(30, ge=1, le=4096, description="dimensions of the latent space")
    image_size: ImageSize = Field(256, description="side of network-ready images, px")
    backbone: Backbone = Field("resnet18", description="network of the image encoders")
    joint_network: Literal["paper", "lifter"] = Field("paper", description="network of joint encoders and decoders")
    joint_loss: Literal["mse", "l2"] = Field(
        "mse", description="loss of 3D joints: mse, squared error; l2, Euclidean distance"
    )
    hidden_dim: int = Field(512, ge=8, le=16384, description="width of the joint networks")
    num_hidden_layers: int = Field(5, ge=1, le=64, description="hidden layers of the joint networks")
    initial_logvar: float = Field(
        0.0, le=0, description="log-variance of the posteriors before training; 0: PyTorch's default initialisation"
    )

    beta: float = Field(1e-5, ge=0, description="weight of the KL term (the paper does not give it)")
    aux_keypoint_weight: float = Field(
        0.0, ge=0, description="weight of the auxiliary keypoint loss; needs backbone=keypoints and joints2d"
    )
    pair_weights: dict[str, float] = Field(
        default_factory=dict, description="INPUT:TARGET -> weight of the pair's loss; 1 for all others"
    )
    batch_size: int = Field(64, ge=1, le=65536, description="samples of a step, of all processes together")
    grad_accum_steps: int = Field(1, ge=1, description="micro-batches that a batch is split into, to save memory")
    lr: float = Field(1e-4, gt=0, description="learning rate of AdamW")
    epochs: int = Field(100, ge=1, description="passes over the training samples")
    min_steps: int = Field(13000, ge=0, description="least number of steps, if the epochs have fewer")
    low_res_fraction: float = Field(
        0.0, ge=0, lt=1, description="first fraction of the steps, in which encoders see images at half their size"
    )
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate after the warm-up")
    warmup_fraction: float = Field(0.0, ge=0, lt=1, description="fraction of the steps with a rising learning rate")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    clip_norm: float = Field(0.0, ge=0, description="largest gradient norm; 0: no clipping")
    augmentation: Augmentation = Field(default_factory=Augmentation, description="ranges of the random views")

    calibration_num_folds: int = Field(
        0, ge=0, le=20, description="cross-validation folds of the calibration; 0: calibrate on validation samples"
    )

    crop_factor: float = Field(1.25, gt=1, le=4, description="side of the hand crop over that of the joints' box")
    crop_margin: float = Field(1.5, ge=1, le=3, description="side of the stored image over that of the crop")
    max_train_samples: int = Field(0, ge=0, description="use only this many training samples; 0: all")
    label_fraction: float = Field(1.0, gt=0, le=1, description="fraction of training samples that keep 3D joints")
    pseudo_label_run: str = Field("", description="a run that predicts 3D joints of samples without them")
    synthetic_count: int = Field(20000, ge=10, description="frames of the synthetic data set")
    synthetic_seed: int = Field(0, ge=0, description="seed of the synthetic data set")

    seed: int = Field(0, ge=0, description="seed of weights, sample order, views and noise")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    threads: int = Field(0, ge=0, description="CPU threads; 0: PyTorch's choice")
    workers: int = Field(0, ge=0, le=64, description="loader threads; 0: none on a CPU, four beside a GPU")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="type that the networks train in; auto: bfloat16 where the hardware has it"
    )
    num_validations: int = Field(25, ge=1, description="number of validations, evenly spaced")
    keep_checkpoints: int = Field(2, ge=1, description="number of checkpoints to keep")
    checkpoint_every_s: float = Field(30.0, ge=0, description="seconds between checkpoints; 0: after every step")
    log_every: int = Field(50, ge=1, description="steps between two log lines")
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = Field(
        "off", description="mode of torch.compile for the networks; reduce-overhead uses CUDA graphs"
    )

    @model_validator(mode="after")
    def _low_res_needs_large_images(self) -> Self:
        if self.low_res_fraction and self.image_size == min(IMAGE_SIZES):
            larger = " or ".join(str(size) for size in sorted(IMAGE_SIZES)[1:])
            raise ValueError(
                f"low_res_fraction {self.low_res_fraction}: half of image_size {self.image_size} is too small; "
                f"use {larger}"
            )
        return self

    @model_validator(mode="after")
    def _aux_keypoint_loss_needs(self) -> Self:
        if not self.aux_keypoint_weight:
            return self
        setting = f"aux_keypoint_weight {self.aux_keypoint_weight}"
        if self.grad_accum_steps > 1:
            raise ValueError(f"{setting}: does not work with micro-batches; --set grad_accum_steps=1")
        if self.compile != "off":
            raise ValueError(f"{setting}: does not work with compiled encoders; --set compile=off")
        if self.backbone != "keypoints" or "joints2d" not in self.modalities:
            raise ValueError(f"{setting}: needs --set backbone=keypoints and joints2d among the modalities")
        return self

    def toml(self) -> str:
        """This configuration as TOML, every setting written out."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def checked(settings: Mapping[str, Any], where: str = "settings") -> Config:
    """Validate plain settings.

    Args:
        settings: name -> value; names that are left out keep their defaults.
        where: where the settings come from, for the message.

    Returns:
        The configuration.

    Raises:
        UserError: If a setting is unknown or does not fit, in one line.

    Example:
        >>> checked({"lr": 3e-4}).lr
        0.0003
        >>> checked({"lrr": 3e-4})
        Traceback (most recent call last):
        cvhpe.errors.UserError: settings: unknown setting 'lrr'; did you mean 'lr'?
    """
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"{where}: {first_error(error)}") from None


def first_error(error: ValidationError) -> str:
    """The first error of a validation, in one line."""
    details = error.errors()[0]
    name = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        known: Sequence[str] = [*Config.model_fields, *(f"augmentation.{n}" for n in Augmentation.model_fields)]
        return f"unknown setting {name!r}; {nearest(name, known)}"
    if not name:  # a rule about several settings
        return str(details["ctx"]["error"])
    message = details["msg"]
    return f"{name} = {details['input']!r}: {message[:1].lower()}{message[1:]}"
