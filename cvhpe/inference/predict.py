"""From a hand found in a picture to its 3D joints: crop as in training, encode, fuse, decode, undo the crop.

Positions are relative to the root joint (T). The size of a hand cannot be seen in a picture, so under S the
length of its middle finger's bone is the training hands' mean unless it is given; the result says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvhpe.data.packing.crops import CropOptions, JointMap, crop_sample
from cvhpe.errors import UserError, nearest
from cvhpe.evaluation.evaluate import encode, identity_view
from cvhpe.geometry.camera import Crop
from cvhpe.geometry.skeleton import LEFT, RIGHT, layout
from cvhpe.inference.hand_detector import Box, Detection, box_around
from cvhpe.models.fusion import fuse, sample_latents
from cvhpe.models.pairs import sources, targets
from cvhpe.plugin.contract import Posterior
from cvhpe.plugin.sample import Sample
from cvhpe.runs.run_dir import Run
from cvhpe.uncertainty.fusion import AS_TRAINED, calibration_of, fusion_params, spread
from cvhpe.uncertainty.tta_disagreement import encode_tta, joints_mm, tta_std

Array = np.ndarray
MOST_SAMPLES = 10_000
LONGEST_MM = 1000.0
"""Of the bone between the middle finger's joints, and far beyond any hand's."""
FARTHEST = 10.0
"""A box's side over the picture's."""

SIDES: Mapping[int | None, str] = {LEFT: "left", RIGHT: "right", None: "unknown"}


@dataclass(frozen=True, kw_only=True)
class Hand:
    """One predicted hand.

    joints3d_mm: ``(J, 3)`` float32, relative to the root joint; camera frame, x right, y down, z forward.
    joints2d_px: ``(J, 2)`` float32 in the picture, centre of its top-left pixel (0, 0). joints2d_from:
        ``detector`` (they were the input), ``decoded`` (by the model), or ``crop`` (the 3D joints laid flat
        into the crop, where the model decodes no 2D).
    uncertainty_mm: ``(J,)`` float32, root mean square distance of posterior samples from ``joints3d_mm``; None
        where no sample was asked for. ``calibrated``: samples are as wide as hands that the run was not trained
        on asked for (:class:`cvhpe.uncertainty.fusion.SampleScaling`): regions hold the truth as often as they say.
    samples_mm: ``(N, J, 3)`` float32, the sampled joints themselves.
    side: 0 left, 1 right, None unknown. side_confidence: of the detector.
    box: x, y, width, height px of the hand as found. inputs: the modalities that were encoded.
    scale_mm: length of the middle finger's PIP-MCP bone that mm were made with. scale_from: ``given``,
        ``training mean``, or ``predicted`` where the run predicts sizes itself (protocols without S).
    """

    joints3d_mm: Array
    joints2d_px: Array
    joints2d_from: str
    uncertainty_mm: Array | None
    samples_mm: Array | None
    calibrated: bool
    side: int | None
    side_confidence: float | None
    box: Box
    inputs: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    scale_mm: float
    scale_from: str
    posterior: Posterior

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, as ``cvhpe predict`` writes them; mm and px to two decimals."""
        return {
            "hand": SIDES[self.side],
            "hand_confidence": None if self.side_confidence is None else round(self.side_confidence, 3),
            "box": [round(x, 2) for x in self.box],
            "joints3d_mm": _plain(self.joints3d_mm),
            "joints2d_px": _plain(self.joints2d_px),
            "joints2d_from": self.joints2d_from,
            "uncertainty_mm": None if self.uncertainty_mm is None else _plain(self.uncertainty_mm),
            "uncertainty_calibrated": self.calibrated,
            "inputs": list(self.inputs),
            "weights": dict(self.weights),
            "scale_mm": round(self.scale_mm, 3),
            "scale_from": self.scale_from,
        }


def _plain(x: Array) -> list[Any]:
    return np.round(x.astype(np.float64), 2).tolist()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a prediction is asked for.

    inputs: modalities to encode; empty: all that the run has and the picture gives. samples: how many
    posterior samples the uncertainty is of; 0 for none. scale_mm: the hand's own bone length, or None.
    seed: of the samples.
    """

    inputs: tuple[str, ...] = ()
    samples: int = 20
    scale_mm: float | None = None
    seed: int = 0


def check_options(run: Run, options: Options) -> None:
    """Refuse what this run cannot give, before any picture is looked at."""
    known = sources(run.model.pairs)
    for name in options.inputs:
        if name not in known:
            raise UserError(f"--from {name}: this run encodes no {name}; {nearest(name, known)}")
    if "joints3d" not in targets(run.model.pairs):
        made = ", ".join(targets(run.model.pairs))
        raise UserError(f"{run.path}: decodes {made}; predict needs a run that decodes joints3d")
    if not wanted_inputs(run, options):
        raise UserError(
            f"{run.path}: encodes {', '.join(known)}, which a photograph does not give; predict needs rgb or joints2d"
        )
    if not 0 <= options.samples <= MOST_SAMPLES:
        raise UserError(f"--samples {options.samples}: 0 to {MOST_SAMPLES:,}")
    if options.scale_mm is not None and not 0 < options.scale_mm <= LONGEST_MM:
        raise UserError(f"--scale-mm {options.scale_mm}: a length in mm, as in --scale-mm 31.5")
    if options.scale_mm is not None and not run.has_scale:
        raise UserError(f"--scale-mm: this run (protocol {run.config.protocol}) predicts sizes itself; leave it out")


def wanted_inputs(run: Run, options: Options, given: Sequence[str] = ("rgb", "joints2d")) -> list[str]:
    """The inputs to encode, out of those made from the fields ``given``."""
    chosen = options.inputs or sources(run.model.pairs)
    return [name for name in chosen if set(run.model.modalities[name].reads) <= set(given)]


def needs_joints(run: Run, options: Options) -> bool:
    """Whether nothing can be predicted without 2D joints."""
    return not wanted_inputs(run, options, ("rgb",))


def uses_joints(run: Run, options: Options) -> bool:
    """Whether 2D joints are one of the inputs."""
    return len(wanted_inputs(run, options)) > len(wanted_inputs(run, options, ("rgb",)))


def predict_hand(run: Run, picture: Array | None, found: Detection, options: Options | None = None) -> Hand:
    """One hand of a picture uint8 ``(H, W, 3)``, or of 2D joints alone (``picture`` None), through a run.

    Raises :class:`UserError` where an input is missing that the run cannot do without.
    """
    options = options or Options()
    if run.knows_side and found.side is None:
        raise UserError(
            "this run must be told which hand it sees (protocol H): say --handedness left or --handedness right"
        )
    fields, crop, given = look(run, picture, found)
    names = wanted_inputs(run, options, given)
    asked = [n for n in options.inputs if n not in names]
    if asked or not names:
        lacking = asked or wanted_inputs(run, options)
        raise UserError(f"no input {', '.join(lacking)}: {_why_not(picture, found, run)}")
    calibration = calibration_of(run.metadata.training)
    how = fusion_params(calibration, names)
    width = calibration.width(names) if calibration else None
    generator = torch.Generator().manual_seed(options.seed)
    with torch.inference_mode():
        posteriors = encode(run.model, fields, names, protocol=run.config.protocol, margin=run.config.crop_margin)
        posterior = fuse(posteriors, **how)
        unit = torch.tensor([options.scale_mm or run.metadata.mean_scale_mm])
        joints = joints_mm(run, posterior.mu, unit)
        samples = None
        if options.samples:
            samples = joints_mm(run, sample_latents(posterior, options.samples, generator), unit)
            unsure = None
            if width and width.turns:
                again = encode_tta(run, fields, names, run.config.crop_margin, width.turns)
                unsure = tta_std(run, again, names, how, unit)
            samples = (width or AS_TRAINED).rescale_samples(samples, joints, generator, unsure)
        flat, flat_from = flat_joints(run, fields, crop, posterior, joints, names)
    wide = None if samples is None else spread(samples, joints)[0].numpy()
    length = float(unit)
    if not run.has_scale:
        child, parent = layout(run.metadata.layout).scale_bone
        length = float((joints[0, child] - joints[0, parent]).norm())
    return Hand(
        joints3d_mm=joints[0].numpy(),
        joints2d_px=flat,
        joints2d_from=flat_from,
        uncertainty_mm=wide,
        samples_mm=None if samples is None else samples[:, 0].numpy(),
        calibrated=width is not None,
        side=found.side,
        side_confidence=found.confidence,
        box=found.box,
        inputs=tuple(names),
        weights=how["weights"],
        scale_mm=length,
        scale_from="predicted" if not run.has_scale else "given" if options.scale_mm else "training mean",
        posterior=posterior,
    )


def look(run: Run, picture: Array | None, found: Detection) -> tuple[dict[str, Tensor], Crop, list[str]]:
    """The fields of a batch of one, as a packed data set would give them; the crop; the inputs' fields there are."""
    options = CropOptions(
        image_size=run.config.image_size, margin=run.config.crop_margin, factor=run.config.crop_factor
    )
    joints = JointMap.of(run.metadata.layout)
    uv = None
    if found.joints2d_px is not None and JointMap.of(found.layout).name == run.metadata.layout:
        joints, uv = JointMap.of(found.layout), found.joints2d_px
    sample = Sample(
        id="the picture",
        side=RIGHT if found.side is None else found.side,
        joints2d_px=uv,
        images={} if picture is None else {"rgb": picture},
        box=found.box,
    )
    row = crop_sample(sample, joints, options, () if picture is None else ("rgb",))
    x, y, side = row["crop"]
    fields = {name: torch.as_tensor(np.array(value)[None]) for name, value in row.items()}
    movable = layout(run.metadata.layout).palm is not None
    fields["root_shift_weight"] = torch.tensor(
        [0.5 if movable and run.metadata.root == "palm" and found.root == "wrist" else 0.0]
    )
    given = [] if picture is None else ["rgb"]
    if uv is not None and np.isfinite(uv).any():
        given.append("joints2d")
    return fields, Crop((float(x), float(y)), float(side)), given


def flat_joints(
    run: Run, fields: Mapping[str, Tensor], crop: Crop, posterior: Posterior, joints: Tensor, names: Sequence[str]
) -> tuple[Array, str]:
    """2D joints ``(J, 2)`` px and where they are from; a joint that the detector left out is the model's."""
    decoded = None
    if "joints2d" in targets(run.model.pairs):
        decoded = run.model.decode("joints2d", posterior.mu)[0].float().cpu().numpy()
    laid = laid_flat(joints[0].numpy(), run.config.crop_factor) if decoded is None else decoded
    if "joints2d" not in names:
        return crop.pixels(laid).astype(np.float32), "crop" if decoded is None else "decoded"
    seen = run.model.modalities["joints2d"].augment(fields["joints2d"], identity_view(fields, 1.0))[0].numpy()
    return crop.pixels(np.where(np.isfinite(seen), seen, laid)).astype(np.float32), "detector"


def check_box(box: Box, picture: Array) -> None:
    """Refuse a box that shows nothing of a picture ``(H, W, 3)``, or next to nothing of it in a sea of black."""
    height, width = picture.shape[:2]
    x, y, w, h = box
    if not (np.isfinite(box).all() and w > 0 and h > 0):
        return  # which :func:`found_by_hand` refuses
    seen = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    if not seen or max(w, h) > FARTHEST * max(width, height) or max(w, h) < 1:
        raise UserError(
            f"--bbox {','.join(f'{v:g}' for v in box)}: no hand there; the picture is {width} x {height} px"
        )


def laid_flat(joints3d: Array, factor: float) -> Array:
    """Crop fractions ``(J, 2)`` of 3D joints seen from far away, in a crop ``factor`` times as wide as they are.

    >>> laid_flat(np.array([[0.0, 0, 0], [10, 0, 3], [10, -20, 5]]), 1.25)
    array([[-0.2,  0.4],
           [ 0.2,  0.4],
           [ 0.2, -0.4]])
    """
    flat = joints3d[:, :2]
    low, high = flat.min(0), flat.max(0)
    return (flat - (low + high) / 2) / ((high - low).max() * factor)


def _why_not(picture: Array | None, found: Detection, run: Run) -> str:
    if picture is None:
        return "2D joints alone were given, and no picture"
    if found.joints2d_px is None:
        return "the detector found no 2D joints there; without one, a run that encodes rgb is needed"
    return f"2D joints of layout {found.layout} do not fit this run's {run.metadata.layout}"


def checked_joints(joints2d_px: Array, name: str) -> Array:
    """2D joints of a layout as float64 ``(J, 2)``; UserError where they have another shape or none is finite."""
    joints = np.asarray(joints2d_px, np.float64)
    wanted = (len(layout(name)), 2)
    if joints.shape != wanted:
        raise UserError(f"2D joints of shape {joints.shape}: this run's layout {name} has {wanted}")
    if not np.isfinite(joints).all(-1).any():
        raise UserError("2D joints without a finite one")
    return joints


def found_by_hand(
    box: Box | None, side: int | None, joints2d_px: Array | None = None, name: str = "hand21", root: str = "wrist"
) -> Detection:
    """A hand that the caller points at, by a box, by its 2D joints in the layout ``name``, or both."""
    if root not in ("wrist", "palm"):
        raise UserError(f"root {root!r}: wrist or palm")
    joints = None if joints2d_px is None else checked_joints(joints2d_px, name)
    if box is None:
        if joints is None:
            raise UserError("say where the hand is: a box or its 2D joints")
        box = box_around(joints)
    elif not (np.isfinite(box).all() and box[2] > 0 and box[3] > 0):
        raise UserError(f"--bbox {','.join(f'{x:g}' for x in box)}: x,y,width,height with a width and height above 0")
    return Detection(box=box, side=side, joints2d_px=joints, layout=name, root=root)
