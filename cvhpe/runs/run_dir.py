"""A run folder and what a trained model remembers of itself: layout, units, plugins, protocol, baselines.

``config.toml`` (resolved), ``metrics.jsonl``, ``model.safetensors``, ``checkpoints/``, ``figures/``,
``report.html``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvhpe.config.schema import Config, checked
from cvhpe.errors import UserError
from cvhpe.models.backbones import IMAGE_SIZES
from cvhpe.models.blocks import PosteriorHead
from cvhpe.models.pairs import Pair, parse_pairs
from cvhpe.models.vae import CrossModalVAE
from cvhpe.plugin.contract import ModelShape
from cvhpe.plugin.registry import Plugin, registry
from cvhpe.runs import serialization

DEFAULT = "default"
"""Name of the run that ships with the package: 2D joints to 3D, trained on synthetic hands alone."""

BUNDLED = Path(__file__).parents[1] / "weights"
"""Folder of the models that ship with the package."""

MODEL = "model."
BASELINE = "baseline."


@dataclass(frozen=True)
class Metadata:
    """What data and settings fix about a model, beyond its weights.

    layout: of every joint tensor. root: what its root joint is, wrist or palm.
    mean_scale_mm: mean scale bone of the training hands, the unit of predictions where S is off.
    training: how the model came about (data sets, epoch, validation), for people and reports.
    """

    layout: str
    root: str
    mean_scale_mm: float
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """A trained model, ready to use, with all it needs to be used rightly."""

    path: Path
    model: CrossModalVAE
    config: Config
    metadata: Metadata
    baselines: dict[str, Tensor]

    @property
    def bundled(self) -> bool:
        """Whether this is the model of the package: its folder is not the user's, and its data did not come along."""
        return self.path == BUNDLED

    @property
    def has_scale(self) -> bool:
        return "S" in self.config.protocol

    @property
    def knows_side(self) -> bool:
        return "H" in self.config.protocol


def model_shape(config: Config, layout: str) -> ModelShape:
    """The sizes that a configuration and a joint layout ask of the modalities."""
    from cvhpe.geometry.skeleton import layout as find

    skeleton = find(layout)
    root, root_shift_joint = skeleton.root_shift
    return ModelShape(
        image_size=config.image_size,
        joints=len(skeleton),
        root=root,
        root_shift_joint=root_shift_joint,
        hidden_dim=config.hidden_dim,
        num_hidden_layers=config.num_hidden_layers,
        backbone=config.backbone,
        joint_network=config.joint_network,
        joint_loss=config.joint_loss,
    )


def model_fields(config: Config) -> tuple[str, ...]:
    """The fields of a packed data set that the modalities of a run read; joints always, to score by."""
    found = {field for name in config.modalities for field in registry().modality(name).reads}
    return tuple(sorted(found | {"joints2d", "joints3d"}))


def build_model(config: Config, layout: str = "hand21") -> CrossModalVAE:
    """The untrained model of a configuration; its initial weights depend on ``config.seed`` alone."""
    if config.low_res_fraction and config.image_size == min(IMAGE_SIZES):
        raise UserError(
            f"coarse {config.low_res_fraction}: half of image_size {config.image_size} is too small; use 128 or 256"
        )
    if config.aux_keypoint_weight and config.grad_accum_steps > 1:
        raise UserError(
            f"hint {config.aux_keypoint_weight}: is not made for batches in pieces; --set grad_accum_steps=1"
        )
    if config.aux_keypoint_weight and config.compile != "off":
        raise UserError(f"hint {config.aux_keypoint_weight}: is not made for compiled encoders; --set compile=off")
    shape = model_shape(config, layout)
    pairs = parse_pairs(",".join(config.pairs), config.modalities)
    modalities = {name: registry().modality(name).sized(shape) for name in config.modalities}
    if config.low_res_fraction and not any(modalities[p.source].geometry == "image" for p in pairs):
        raise UserError(f"coarse {config.low_res_fraction}: no picture is encoded by {', '.join(map(str, pairs))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = CrossModalVAE(modalities, pairs, config.latent_dim)
    looking = any(hasattr(encoder, "encode_with_keypoints") for encoder in model.encoders.values())
    if config.aux_keypoint_weight and not (looking and "joints2d" in config.modalities):
        raise UserError(
            f"hint {config.aux_keypoint_weight}: needs --set backbone=keypoints and joints2d among the modalities"
        )
    model.aux_keypoint_weight = config.aux_keypoint_weight
    if config.initial_logvar:
        for module in model.modules():
            if isinstance(module, PosteriorHead):
                module.init_logvar(config.initial_logvar)
    return model


def unit_mm(config: Config, mean_scale_mm: float) -> float:
    """:attr:`CrossModalVAE.unit_mm`: 0, the hand's own bone, with S; the training hands' mean bone without."""
    return 0.0 if "S" in config.protocol else mean_scale_mm


def card(model: CrossModalVAE, config: Config, metadata: Metadata) -> dict[str, Any]:
    """The JSON that travels with the weights."""
    modalities = {}
    for name, modality in model.modalities.items():
        plugin = registry().supplier(name)
        modalities[name] = {
            "shape": list(modality.shape),
            "units": modality.units,
            "plugin": plugin.dist,
            "version": plugin.version,
            "api": modality.api,
        }
    return {
        "cvhpe": version("cvhpe"),
        "torch": torch.__version__,
        "modalities": modalities,
        "pairs": [str(p) for p in model.pairs],
        "config": config.model_dump(mode="json"),
        "metadata": asdict(metadata),
    }


def save_run(
    path: Path, model: CrossModalVAE, config: Config, metadata: Metadata, baselines: Mapping[str, Tensor]
) -> None:
    """Write ``model.safetensors`` of a run folder."""
    tensors = {MODEL + n: t for n, t in model.state_dict().items()}
    tensors |= {BASELINE + n: t for n, t in baselines.items()}
    serialization.save(path / "model.safetensors", tensors, card(model, config, metadata))


def load_run(path: str | Path, device: str | torch.device = "cpu", weights: str = "model.safetensors") -> Run:
    """Open a run folder, a model file or the run :data:`DEFAULT`; checks plugins, shapes and the file's checksum."""
    path = BUNDLED / f"{DEFAULT}.safetensors" if str(path) == DEFAULT else Path(path)
    file = path if path.is_file() else path / weights
    if not path.exists():
        raise UserError(f"{path}: no such run; `cvhpe train --out {path}` makes one")
    if not file.is_file():
        raise UserError(f"{path}: holds no {weights}; has its training reached a first checkpoint?")
    known = serialization.read_card(file)
    check_plugins(file, known)
    try:
        metadata = Metadata(**known["metadata"])
    except (KeyError, TypeError):
        raise UserError(f"{file}: its card lacks what a run needs; was it made by cvhpe train?") from None
    config = checked(known["config"], where=str(file))
    model = build_model(config, metadata.layout)
    found = {n.removeprefix(MODEL): s for n, s in serialization.shapes(file).items() if n.startswith(MODEL)}
    serialization.check_shapes(file, found, {n: tuple(t.shape) for n, t in model.state_dict().items()})
    tensors = serialization.load(file)
    model.load_state_dict({n.removeprefix(MODEL): t for n, t in tensors.items() if n.startswith(MODEL)})
    model.unit_mm = unit_mm(config, metadata.mean_scale_mm)
    baselines = {n.removeprefix(BASELINE): t for n, t in tensors.items() if n.startswith(BASELINE)}
    folder = path.parent if path.is_file() else path
    return Run(folder, model.to(device).eval(), config, metadata, baselines)


def check_plugins(file: Path, known: Mapping[str, Any]) -> None:
    """Refuse weights whose modality comes from a missing plugin, another one, or another version of it."""
    installed = registry().plugins  # under CVHPE_STRICT_PLUGINS a broken one ends it here, with its own reason
    for name, was in known.get("modalities", {}).items():
        package = f"{was['plugin']} {was['version']}"
        try:
            plugin = registry().supplier(name)
        except UserError:
            raise UserError(
                f"{file}: trained with modality {name!r} of {package}, {_absence(was, installed)}"
            ) from None
        if plugin.dist != was["plugin"]:
            raise UserError(
                f"{file}: trained with modality {name!r} of {package}, but {plugin.package} supplies it here; "
                f"install {package} and uninstall {plugin.dist}"
            )
        if plugin.version != was["version"] and not plugin.is_builtin:
            raise UserError(
                f"{file}: trained with modality {name!r} of {package}, installed is {plugin.version}; "
                f"pip install '{was['plugin']}=={was['version']}'"
            )


def _absence(was: Mapping[str, Any], installed: Iterable[Plugin]) -> str:
    """Why nobody here supplies a modality that a plugin once did, and how to mend it."""
    mend = f"pip install '{was['plugin']}=={was['version']}'"
    theirs = [p for p in installed if p.dist == was["plugin"]]
    for p in theirs:
        if p.state == "disabled":
            return f"which is {p.error}; take it out of there"
        if p.state == "broken":
            return f"which is broken here ({p.error}); mend it, or {mend}"
    return f"installed is {theirs[0].version}, which has none; {mend}" if theirs else f"which is not installed; {mend}"


def pair_weights(config: Config) -> dict[Pair, float]:
    """The weights of pairs that are not 1."""
    return {parse_pairs(name, config.modalities)[0]: weight for name, weight in config.pair_weights.items()}
