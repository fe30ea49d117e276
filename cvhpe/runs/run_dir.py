"""A run folder: ``config.toml``, ``metrics.jsonl``, ``model.safetensors``, ``checkpoints/``, ``report.html``.

``model.safetensors`` holds a model's weights and all that is needed to use them: layout, unit, protocol, plugins and
the baselines that its scores are compared with.
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
from cvhpe.geometry.skeleton import layout as find_layout
from cvhpe.models.blocks import PosteriorHead
from cvhpe.models.pairs import Pair, parse_pairs
from cvhpe.models.vae import CrossModalVAE
from cvhpe.plugin.contract import ModelShape
from cvhpe.plugin.registry import Plugin, registry
from cvhpe.runs import serialization
from cvhpe.runs.serialization import with_prefix

DEFAULT = "default"
"""Name of the bundled run: 2D joints to 3D, trained on synthetic hands."""

BUNDLED = Path(__file__).parents[1] / "weights"
"""Folder of the models that are part of the package."""

WEIGHTS = "model.safetensors"
MODEL, BASELINE = "model.", "baseline."
"""Prefixes of the tensors' names in a file."""


@dataclass(frozen=True)
class Metadata:
    """What the training data fix about a model, beyond its weights.

    Args:
        layout: joint layout of every joint tensor.
        root: what the root joint is, ``wrist`` or ``palm``.
        mean_scale_mm: mean scale bone of the training hands; the unit of predictions without protocol S.
        training: step, validation score, data sets and calibration, for reports.
    """

    layout: str
    root: str
    mean_scale_mm: float
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """A trained model in evaluation mode, with its settings and metadata."""

    path: Path
    model: CrossModalVAE
    config: Config
    metadata: Metadata
    baselines: dict[str, Tensor]

    @property
    def bundled(self) -> bool:
        """Whether this is the bundled model: its folder is not the user's, and its data are not on this machine."""
        return self.path == BUNDLED

    @property
    def has_scale(self) -> bool:
        """Whether the hand's scale bone is given (protocol S)."""
        return "S" in self.config.protocol

    @property
    def knows_side(self) -> bool:
        """Whether the hand side is given (protocol H)."""
        return "H" in self.config.protocol


def model_shape(config: Config, layout: str) -> ModelShape:
    """The sizes of a run's networks.

    Args:
        config: settings of the run.
        layout: joint layout of its data.

    Returns:
        What the modalities are configured with.
    """
    skeleton = find_layout(layout)
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
    """The fields of a packed data set that the modalities of a run read; joints always, for the scores."""
    fields = {field for name in config.modalities for field in registry().modality(name).reads}
    return tuple(sorted(fields | {"joints2d", "joints3d"}))


def build_model(
    config: Config, layout: str = "hand21", *, mean_scale_mm: float = 0.0, precision: torch.dtype | None = None
) -> CrossModalVAE:
    """The untrained model of a configuration; its initial weights depend on ``config.seed`` alone.

    Args:
        config: settings of the run.
        layout: joint layout of its data.
        mean_scale_mm: mean scale bone of the training hands, the unit of 3D joints without protocol S.
        precision: the type that the networks multiply in; None is float32.

    Returns:
        The model, on the CPU.

    Raises:
        UserError: If a setting does not fit the pairs.
    """
    shape = model_shape(config, layout)
    pairs = parse_pairs(",".join(config.pairs), config.modalities)
    modalities = {name: registry().modality(name).sized(shape) for name in config.modalities}
    if config.low_res_fraction and not any(modalities[p.source].geometry == "image" for p in pairs):
        encoded = ", ".join(map(str, pairs))
        raise UserError(f"low_res_fraction {config.low_res_fraction}: no image is encoded by {encoded}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = CrossModalVAE(
            modalities,
            pairs,
            config.latent_dim,
            precision=precision,
            unit_mm=0.0 if "S" in config.protocol else mean_scale_mm,
            aux_keypoint_weight=config.aux_keypoint_weight,
        )
    if config.aux_keypoint_weight and not any(hasattr(e, "encode_with_keypoints") for e in model.encoders.values()):
        raise UserError(f"aux_keypoint_weight {config.aux_keypoint_weight}: no encoder of this run detects keypoints")
    if config.initial_logvar:
        for module in model.modules():
            if isinstance(module, PosteriorHead):
                module.init_logvar(config.initial_logvar)
    return model


def model_metadata(model: CrossModalVAE, config: Config, metadata: Metadata) -> dict[str, Any]:
    """The JSON that is saved with a model's weights.

    Args:
        model: the model.
        config: settings of the run.
        metadata: what its data fix.

    Returns:
        Versions, modalities and their plugins, pairs, settings and metadata.
    """
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
    """Write ``model.safetensors`` of a run folder.

    Args:
        path: the run folder.
        model: the weights to save.
        config: settings of the run.
        metadata: what its data fix.
        baselines: see :func:`cvhpe.evaluation.baselines.fit_baselines`.
    """
    tensors = {MODEL + n: t for n, t in model.state_dict().items()}
    tensors |= {BASELINE + n: t for n, t in baselines.items()}
    serialization.save(path / WEIGHTS, tensors, model_metadata(model, config, metadata))


def load_run(path: str | Path, device: str | torch.device = "cpu") -> Run:
    """Open a run; its plugins, shapes and checksum are checked.

    Args:
        path: a run folder, a model file, or :data:`DEFAULT`.
        device: where to put the model.

    Returns:
        The run, its model in evaluation mode.

    Raises:
        UserError: If there is no such run, or it cannot be used here.
    """
    path = BUNDLED / f"{DEFAULT}.safetensors" if str(path) == DEFAULT else Path(path)
    file = path if path.is_file() else path / WEIGHTS
    if not path.exists():
        raise UserError(f"{path}: no such run; `cvhpe train --out {path}` makes one")
    if not file.is_file():
        raise UserError(f"{path}: holds no {WEIGHTS}; has its training reached a first checkpoint?")
    saved = serialization.read_metadata(file)
    try:
        check_plugins(file, saved)
        metadata = Metadata(**saved["metadata"])
        config = checked(saved["config"], where=str(file))
        is_valid = isinstance(metadata.layout, str) and isinstance(metadata.mean_scale_mm, int | float)
    except (KeyError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise UserError(f"{file}: its metadata lacks what a run needs; was it made by cvhpe train?") from None
    model = build_model(config, metadata.layout, mean_scale_mm=metadata.mean_scale_mm)
    expected = {n: tuple(t.shape) for n, t in model.state_dict().items()}
    serialization.check_shapes(file, with_prefix(MODEL, serialization.read_shapes(file)), expected)
    tensors = serialization.read_tensors(file)
    model.load_state_dict(with_prefix(MODEL, tensors))
    folder = path.parent if path.is_file() else path
    return Run(folder, model.to(device).eval(), config, metadata, with_prefix(BASELINE, tensors))


def check_plugins(file: Path, saved: Mapping[str, Any]) -> None:
    """Check that a file's modalities come from the same plugins here.

    Args:
        file: for the message.
        saved: its metadata.

    Raises:
        UserError: If a plugin is missing, or another one or another version of it is installed.
    """
    installed = registry().plugins  # under CVHPE_STRICT_PLUGINS a broken one raises here, with its own reason
    for name, was in saved.get("modalities", {}).items():
        package = f"{was['plugin']} {was['version']}"
        try:
            plugin = registry().supplier(name)
        except UserError:
            reason = _absence(was, installed)
            raise UserError(f"{file}: trained with modality {name!r} of {package}, {reason}") from None
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
    """Why no plugin here supplies a modality, and what to do about it."""
    fix = f"pip install '{was['plugin']}=={was['version']}'"
    same_dist = [p for p in installed if p.dist == was["plugin"]]
    for p in same_dist:
        if p.state == "disabled":
            return f"which is {p.error}; take it out of there"
        if p.state == "broken":
            return f"which is broken here ({p.error}); fix it, or {fix}"
    if same_dist:
        return f"installed is {same_dist[0].version}, which has none; {fix}"
    return f"which is not installed; {fix}"


def pair_weights(config: Config) -> dict[Pair, float]:
    """The pairs whose weight is not 1."""
    return {parse_pairs(name, config.modalities)[0]: weight for name, weight in config.pair_weights.items()}
