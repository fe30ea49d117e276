"""What a run is made of: one checked, frozen record, from TOML, ``--set`` and the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cvhpe.errors import UserError, nearest

PROTOCOLS = ("T", "TS", "TH", "TSH")
Protocol = Literal["T", "TS", "TH", "TSH"]


class Augmentation(BaseModel):
    """FusionParams far a view may stray: the paper's rotation, shift and flip; scale is off as in the paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation_deg: float = Field(45.0, ge=0, le=180, description="turn, uniform in [-this, this] degrees")
    shift: float = Field(0.05, ge=0, le=0.5, description="move, uniform in [-this, this] of the crop's side")
    scale: float = Field(0.0, ge=0, le=0.5, description="enlarge, log-uniform in [1 / (1 + this), 1 + this]")
    flip: float = Field(0.5, ge=0, le=1, description="chance of a mirror image, which swaps the hand side")
    pose_swap_prob: float = Field(
        0.0, ge=0, le=1, description="chance to be seen as another hand is; for runs of joints alone"
    )
    keypoint_noise_px: float = Field(0.0, ge=0, description="largest pixel noise on 2D joints, for half of the samples")


class Config(BaseModel):
    """Every setting of a training run. The paper's values are the defaults, where the paper has one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modalities: tuple[str, ...] = Field(("rgb", "joints3d"), description="what a hand is seen as")
    pairs: tuple[str, ...] = Field((), description="INPUT:TARGET pairs; empty: those of the variant")
    variant: int = Field(3, ge=1, le=4, description="the paper's variant, where no pairs are named")
    data: tuple[str, ...] = Field(("synthetic",), description="NAME or NAME:PATH of each data set")
    recipe: Literal["paper", "best"] = Field("paper", description="which set of defaults")
    protocol: Protocol = Field("TSH", description="T root-relative, S bone-scaled, H hand side given")

    latent_dim: int = Field(30, ge=1, le=4096)
    image_size: Literal[64, 128, 256] = 256
    backbone: Literal["resnet18", "resnet50", "keypoints"] = Field("resnet18", description="of picture encoders")
    joint_network: Literal["paper", "lifter"] = Field("paper", description="of joints")
    joint_loss: Literal["mse", "l2"] = Field("mse", description="of 3D joints")
    hidden_dim: int = Field(512, ge=8, le=16384, description="of the joint networks")
    num_hidden_layers: int = Field(5, ge=1, le=64, description="hidden layers of the joint networks")

    initial_logvar: float = Field(0.0, le=0, description="posteriors begin at about this logvar; 0: as torch has it")
    beta: float = Field(1e-5, ge=0, description="weight of the KL term (the paper does not say)")
    aux_keypoint_weight: float = Field(
        0.0, ge=0, description="weight of 2D joints for what backbone keypoints sees of them"
    )
    pair_weights: dict[str, float] = Field(default_factory=dict, description="INPUT:TARGET -> weight, else 1")
    batch_size: int = Field(64, ge=1, le=65536)
    grad_accum_steps: int = Field(1, ge=1, description="work through each batch in this many pieces, to spare memory")
    lr: float = Field(1e-4, gt=0)
    epochs: int = Field(100, ge=1)
    min_steps: int = Field(13000, ge=0, description="train longer than the epochs say where they are fewer steps")
    low_res_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the steps in which, at first, encoders see half-size pictures"
    )
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_fraction: float = Field(0.0, ge=0, lt=1, description="share of the steps with a rising learning rate")
    weight_decay: float = Field(0.0, ge=0)
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    clip_norm: float = Field(0.0, ge=0, description="largest gradient norm; 0: no clipping")
    augmentation: Augmentation = Field(default_factory=lambda: Augmentation())

    calibration_num_folds: int = Field(
        0, ge=0, le=20, description="calibrate on training hands, held out in so many folds; 0: on validation hands"
    )

    crop_factor: float = Field(1.25, gt=1, le=4, description="side of the hand crop over that of the joints' box")
    crop_margin: float = Field(1.5, ge=1, le=3, description="side of the stored picture over that of the crop")
    max_train_samples: int = Field(0, ge=0, description="use this many training samples; 0: all")
    label_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training samples that keep their 3D joints"
    )
    pseudo_label_run: str = Field("", description="a run whose predictions stand in for hands without 3D joints")
    synthetic_count: int = Field(20000, ge=10, description="frames of the synthetic data set")
    synthetic_seed: int = Field(0, ge=0)

    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(0, ge=0, description="CPU threads; 0: torch's choice")
    workers: int = Field(0, ge=0, le=64, description="loader threads; 0: none, but four beside a GPU")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="what networks multiply in while they train; auto: bfloat16 where the hardware has it"
    )
    num_validations: int = Field(25, ge=1, description="how often the run is validated, evenly spaced")
    keep_checkpoints: int = Field(2, ge=1, description="how many of the last checkpoints are kept")
    checkpoint_every_s: float = Field(30.0, ge=0, description="least time between checkpoints; 0: after every step")
    log_every: int = Field(50, ge=1, description="losses are read from the device and logged every so many steps")
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = Field(
        "off", description="torch.compile for the networks, and in which mode; reduce-overhead uses CUDA graphs"
    )

    def toml(self) -> str:
        """This configuration as TOML, every setting spelled out."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def parse(text: str) -> Any:
    """A value of ``--set a.b=value``: TOML where it is TOML, else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def assign(tree: dict[str, Any], setting: str) -> None:
    """Write one ``a.b=value`` into a nested dictionary."""
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {setting!r}: write it as name=value, as in --set lr=1e-3")
    *path, last = key.strip().split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {setting!r}: {part!r} has no settings below it")
    tree[last] = parse(value.strip())


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"--config {path}: {error}") from None


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, tables merged name by name."""
    out = dict(base)
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(name), Mapping):
            out[name] = merge(dict(out[name]), value)
        else:
            out[name] = value
    return out


def checked(settings: Mapping[str, Any], where: str = "settings") -> Config:
    """A :class:`Config` of plain settings; what does not fit is one :class:`UserError`."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"{where}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, in one line."""
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known: Sequence[str] = [*Config.model_fields, *(f"augmentation.{n}" for n in Augmentation.model_fields)]
        return f"unknown setting {name!r}; {nearest(name, known)}"
    return f"{name} = {fault['input']!r}: {fault['msg'].lower()}"
