"""Predict the 3D joints of a detected hand: crop as in training, encode, fuse, decode, undo the crop.

Positions are relative to the root joint (protocol T). An image does not determine the size of a hand: under protocol S
the length of the scale bone is the mean of the training set unless it is given; the result records which.
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
from cvhpe.uncertainty.fusion import calibration_of, fusion_params
from cvhpe.uncertainty.sample_scaling import UNSCALED, sample_std
from cvhpe.uncertainty.tta_disagreement import decode_joints_mm, encode_tta, tta_std

Array = np.ndarray
MAX_SAMPLES = 10_000
MAX_SCALE_MM = 1000.0  # of the scale bone, far above any hand's
MAX_BOX_RATIO = 10.0  # of a box's side over the image's

SIDES: Mapping[int | None, str] = {LEFT: "left", RIGHT: "right", None: "unknown"}


@dataclass(frozen=True, kw_only=True)
class Hand:
    """One predicted hand.

    Attributes:
        joints3d_mm: ``(J, 3)`` float32, relative to the root joint; camera frame, x right, y down, z forward.
        joints2d_px: ``(J, 2)`` float32 in the image, centre of the top-left pixel (0, 0).
        joints2d_from: ``detector``, ``decoded`` or ``crop``: orthographic projection of the 3D joints into the crop.
        uncertainty_mm: ``(J,)`` float32, RMS distance of posterior samples from ``joints3d_mm``; None without samples.
        samples_mm: ``(N, J, 3)`` float32, the sampled joints.
        calibrated: Whether a calibration scales the samples to the nominal coverage of credible regions.
        side: 0 left, 1 right, None unknown.
        side_confidence: Of the detector.
        box: x, y, width, height of the detected hand, pixels.
        inputs: The encoded modalities.
        weights: Input -> weight in the fusion.
        scale_mm: Length of the scale bone (middle finger PIP to MCP) in the result.
        scale_from: ``given``, ``training mean``, or ``predicted`` by a run that predicts sizes (protocols without S).
        posterior: The fused posterior, ``[1, D]``.
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
        """Convert to plain numbers, as ``cvhpe predict`` writes them; mm and px have two decimals."""

        def plain(x: Array) -> list[Any]:
            return np.round(x.astype(np.float64), 2).tolist()

        return {
            "hand": SIDES[self.side],
            "hand_confidence": None if self.side_confidence is None else round(self.side_confidence, 3),
            "box": [round(x, 2) for x in self.box],
            "joints3d_mm": plain(self.joints3d_mm),
            "joints2d_px": plain(self.joints2d_px),
            "joints2d_from": self.joints2d_from,
            "uncertainty_mm": None if self.uncertainty_mm is None else plain(self.uncertainty_mm),
            "uncertainty_calibrated": self.calibrated,
            "inputs": list(self.inputs),
            "weights": dict(self.weights),
            "scale_mm": round(self.scale_mm, 3),
            "scale_from": self.scale_from,
        }


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a prediction.

    Attributes:
        inputs: Modalities to encode; empty: all that are available.
        samples: Number of posterior samples for the uncertainty; 0: none.
        scale_mm: Length of the scale bone; None: the mean of the training set.
        seed: Seed of the samples.
    """

    inputs: tuple[str, ...] = ()
    samples: int = 20
    scale_mm: float | None = None
    seed: int = 0


def check_options(run: Run, options: Options) -> None:
    """Check that a run supports the options, before any image is read.

    Args:
        run: The run.
        options: The options.

    Raises:
        UserError: If it does not.
    """
    known = sources(run.model.pairs)
    for name in options.inputs:
        if name not in known:
            raise UserError(f"--from {name}: this run encodes no {name}; {nearest(name, known)}")
    if "joints3d" not in targets(run.model.pairs):
        decoded = ", ".join(targets(run.model.pairs))
        raise UserError(f"{run.path}: decodes {decoded}; predict needs a run that decodes joints3d")
    if not wanted_inputs(run, options):
        raise UserError(
            f"{run.path}: encodes {', '.join(known)}, which an image does not provide; predict needs rgb or joints2d"
        )
    if not 0 <= options.samples <= MAX_SAMPLES:
        raise UserError(f"--samples {options.samples}: 0 to {MAX_SAMPLES:,}")
    if options.scale_mm is not None and not 0 < options.scale_mm <= MAX_SCALE_MM:
        raise UserError(f"--scale-mm {options.scale_mm}: a length in mm, as in --scale-mm 31.5")
    if options.scale_mm is not None and not run.has_scale:
        raise UserError(f"--scale-mm: this run (protocol {run.config.protocol}) predicts sizes itself; drop the option")


def wanted_inputs(run: Run, options: Options, given: Sequence[str] = ("rgb", "joints2d")) -> list[str]:
    """List the inputs to encode.

    Args:
        run: The run.
        options: The options.
        given: Available stored fields.

    Returns:
        Modalities of the options, by default of the run, that are made from these fields.
    """
    chosen = options.inputs or sources(run.model.pairs)
    return [name for name in chosen if set(run.model.modalities[name].reads) <= set(given)]


def needs_joints(run: Run, options: Options) -> bool:
    """Whether a prediction requires 2D joints.

    Args:
        run: The run.
        options: The options.

    Returns:
        True if no input is made from an image alone.
    """
    return not wanted_inputs(run, options, ("rgb",))


def uses_joints(run: Run, options: Options) -> bool:
    """Whether 2D joints are one of the inputs.

    Args:
        run: The run.
        options: The options.

    Returns:
        True if an input is made from 2D joints.
    """
    return len(wanted_inputs(run, options)) > len(wanted_inputs(run, options, ("rgb",)))


def predict_hand(run: Run, image: Array | None, detection: Detection, options: Options | None = None) -> Hand:
    """Predict one hand.

    Args:
        run: The run.
        image: uint8 ``(H, W, 3)``, RGB; None predicts from 2D joints alone.
        detection: The hand in the image.
        options: The options.

    Returns:
        The predicted hand.

    Raises:
        UserError: If a required input or the hand side is missing.
    """
    options = options or Options()
    if run.knows_side and detection.side is None:
        raise UserError("this run needs the hand side (protocol H): add --handedness left or --handedness right")
    fields, crop, given = make_fields(run, image, detection)
    names = wanted_inputs(run, options, given)
    missing = [n for n in options.inputs if n not in names]
    if missing or not names:
        missing = missing or wanted_inputs(run, options)
        raise UserError(f"no input {', '.join(missing)}: {_why_missing(image, detection, run)}")
    calibration = calibration_of(run.metadata.training)
    how = fusion_params(calibration, names)
    width = calibration.scaling(names) if calibration else None
    generator = torch.Generator().manual_seed(options.seed)
    with torch.inference_mode():
        posteriors = encode(run.model, fields, names, protocol=run.config.protocol, margin=run.config.crop_margin)
        posterior = fuse(posteriors, **how)
        unit = torch.tensor([options.scale_mm or run.metadata.mean_scale_mm])
        joints = decode_joints_mm(run, posterior.mu, unit)
        samples = None
        if options.samples:
            samples = decode_joints_mm(run, sample_latents(posterior, options.samples, generator), unit)
            unsure = None
            if width and width.tta_angles:
                again = encode_tta(run, fields, names, run.config.crop_margin, width.tta_angles)
                unsure = tta_std(run, again, names, how, unit)
            samples = (width or UNSCALED).rescale_samples(samples, joints, generator, unsure)
        joints2d_px, joints2d_from = _joints2d(run, fields, crop, posterior, joints, names)
    wide = None if samples is None else sample_std(samples, joints)[0].numpy()
    length = float(unit)
    if not run.has_scale:
        child, parent = layout(run.metadata.layout).scale_bone
        length = float((joints[0, child] - joints[0, parent]).norm())
    return Hand(
        joints3d_mm=joints[0].numpy(),
        joints2d_px=joints2d_px,
        joints2d_from=joints2d_from,
        uncertainty_mm=wide,
        samples_mm=None if samples is None else samples[:, 0].numpy(),
        calibrated=width is not None,
        side=detection.side,
        side_confidence=detection.confidence,
        box=detection.box,
        inputs=tuple(names),
        weights=how["weights"],
        scale_mm=length,
        scale_from="predicted" if not run.has_scale else "given" if options.scale_mm else "training mean",
        posterior=posterior,
    )


def make_fields(run: Run, image: Array | None, detection: Detection) -> tuple[dict[str, Tensor], Crop, list[str]]:
    """Crop a hand as a packed data set does.

    Args:
        run: The run.
        image: uint8 ``(H, W, 3)``, RGB, or None.
        detection: The hand in the image.

    Returns:
        The stored fields of a batch of one, the crop, and the available fields of inputs.
    """
    options = CropOptions(
        image_size=run.config.image_size, margin=run.config.crop_margin, factor=run.config.crop_factor
    )
    joints = JointMap.of(run.metadata.layout)
    uv = None
    if detection.joints2d_px is not None and JointMap.of(detection.layout).name == run.metadata.layout:
        joints, uv = JointMap.of(detection.layout), detection.joints2d_px
    sample = Sample(
        id="the image",
        side=RIGHT if detection.side is None else detection.side,
        joints2d_px=uv,
        images={} if image is None else {"rgb": image},
        box=detection.box,
    )
    row = crop_sample(sample, joints, options, () if image is None else ("rgb",))
    x, y, side = row["crop"]
    fields = {name: torch.as_tensor(np.array(value)[None]) for name, value in row.items()}
    weight = layout(run.metadata.layout).root_shift_weight(detection.root, run.metadata.root)
    fields["root_shift_weight"] = torch.tensor([weight])
    given = [] if image is None else ["rgb"]
    if uv is not None and np.isfinite(uv).any():
        given.append("joints2d")
    return fields, Crop((float(x), float(y)), float(side)), given


def _joints2d(
    run: Run, fields: Mapping[str, Tensor], crop: Crop, posterior: Posterior, joints: Tensor, names: Sequence[str]
) -> tuple[Array, str]:
    """2D joints ``(J, 2)``, pixels, and their source; joints without a detection are the model's."""
    decoded = None
    if "joints2d" in targets(run.model.pairs):
        decoded = run.model.decode("joints2d", posterior.mu)[0].float().cpu().numpy()
    fractions = project_to_crop(joints[0].numpy(), run.config.crop_factor) if decoded is None else decoded
    if "joints2d" not in names:
        return crop.pixels(fractions).astype(np.float32), "crop" if decoded is None else "decoded"
    detected = run.model.modalities["joints2d"].augment(fields["joints2d"], identity_view(fields, 1.0))[0].numpy()
    return crop.pixels(np.where(np.isfinite(detected), detected, fractions)).astype(np.float32), "detector"


def check_box(box: Box, image: Array) -> None:
    """Check that a box overlaps an image and has a sensible size.

    Args:
        box: x, y, width, height, pixels.
        image: ``(H, W, 3)``.

    Raises:
        UserError: If it does not.
    """
    height, width = image.shape[:2]
    x, y, w, h = box
    if not (np.isfinite(box).all() and w > 0 and h > 0):
        return  # detection_from reports it
    overlaps = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    if not overlaps or max(w, h) > MAX_BOX_RATIO * max(width, height) or max(w, h) < 1:
        raise UserError(f"--bbox {','.join(f'{v:g}' for v in box)}: no hand there; the image is {width} x {height} px")


def project_to_crop(joints3d: Array, factor: float) -> Array:
    """Project 3D joints orthographically into their crop.

    Args:
        joints3d: ``(J, 3)``.
        factor: Side of the crop over the longer side of the joints' bounding box.

    Returns:
        ``(J, 2)``, crop fractions.

    Example:
        >>> project_to_crop(np.array([[0.0, 0, 0], [10, 0, 3], [10, -20, 5]]), 1.25)
        array([[-0.2,  0.4],
               [ 0.2,  0.4],
               [ 0.2, -0.4]])
    """
    flat = joints3d[:, :2]
    low, high = flat.min(0), flat.max(0)
    return (flat - (low + high) / 2) / ((high - low).max() * factor)


def _why_missing(image: Array | None, detection: Detection, run: Run) -> str:
    if image is None:
        return "2D joints alone were given, and no image"
    if detection.joints2d_px is None:
        return "no 2D joints are detected there; use a run that encodes rgb, or a detector"
    return f"2D joints of layout {detection.layout} do not fit this run's {run.metadata.layout}"


def checked_joints(joints2d_px: Array, name: str) -> Array:
    """Convert 2D joints to float64 and check them.

    Args:
        joints2d_px: ``(J, 2)``, pixels.
        name: Their joint layout.

    Returns:
        ``(J, 2)`` float64.

    Raises:
        UserError: If the shape is wrong or no joint is finite.
    """
    joints = np.asarray(joints2d_px, np.float64)
    expected = (len(layout(name)), 2)
    if joints.shape != expected:
        raise UserError(f"2D joints of shape {joints.shape}: this run's layout {name} has {expected}")
    if not np.isfinite(joints).all(-1).any():
        raise UserError("no 2D joint is finite")
    return joints


def detection_from(
    box: Box | None, side: int | None, joints2d_px: Array | None = None, name: str = "hand21", root: str = "wrist"
) -> Detection:
    """Make a detection from a box, from 2D joints, or both.

    Args:
        box: x, y, width, height, pixels; by default the bounding box of the joints.
        side: 0 left, 1 right, None unknown.
        joints2d_px: ``(J, 2)``, pixels.
        name: Joint layout of the joints.
        root: Position of their root joint, ``wrist`` or ``palm``.

    Returns:
        The detection.

    Raises:
        UserError: If both are missing, or one is invalid.
    """
    if root not in ("wrist", "palm"):
        raise UserError(f"root {root!r}: wrist or palm")
    joints = None if joints2d_px is None else checked_joints(joints2d_px, name)
    if box is None:
        if joints is None:
            raise UserError("give the box of the hand or its 2D joints")
        box = box_around(joints)
    elif not (np.isfinite(box).all() and box[2] > 0 and box[3] > 0):
        raise UserError(f"--bbox {','.join(f'{x:g}' for x in box)}: x,y,width,height with a width and height above 0")
    return Detection(box=box, side=side, joints2d_px=joints, layout=name, root=root)
