"""The Python API of a trained model: prediction, encoding, decoding, and the latent space.

Example:
    >>> import numpy as np
    >>> from cvhpe.synthetic import poses
    >>> model = load("default")
    >>> joints = poses(1, seed=7, left=0)["joints2d_px"][0]
    >>> hand = model.predict(joints2d=joints, hand="right")[0]
    >>> hand.joints3d_mm.shape, hand.uncertainty_mm.shape
    ((21, 3), (21,))
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvhpe.errors import UserError, nearest
from cvhpe.geometry.skeleton import LEFT, RIGHT
from cvhpe.inference.hand_detector import (
    MAX_HANDS,
    Box,
    Detection,
    Detector,
    detect_hands,
    detect_in_box,
    mediapipe_detector,
)
from cvhpe.inference.predict import (
    Hand,
    Options,
    check_box,
    check_options,
    detection_from,
    needs_joints,
    predict_hand,
    uses_joints,
)
from cvhpe.io.image import to_rgb_array
from cvhpe.models.fusion import sample_latents
from cvhpe.models.pairs import sources, targets
from cvhpe.plugin.contract import Posterior, View, hand_side
from cvhpe.runs.run_dir import Run, load_run
from cvhpe.uncertainty.fusion import calibration_of, uncalibrated_warning

Array = np.ndarray


def load(
    run: str | Path = "default",
    device: str = "cpu",
    detector: Detector | None = None,
    detector_model: Path | str | None = None,
    hands: int = MAX_HANDS,
) -> HandModel:
    """Open a trained run.

    Args:
        run: A run folder, a model file, or ``default``: the bundled model, 2D to 3D joints, trained on synthetic hands.
        device: Device of the model.
        detector: Detects hands in images; by default MediaPipe, loaded on first use.
        detector_model: A ``hand_landmarker.task``, for MediaPipe versions without models.
        hands: Maximum number of hands to detect in an image.

    Returns:
        The model.

    Example:
        >>> load("default").inputs
        ('joints2d',)
    """
    return HandModel(
        load_run(run, device), detector, None if detector_model is None else Path(detector_model), hands=hands
    )


class HandModel:
    """A trained model with its metadata.

    Args:
        run: Weights, settings, layout and scale.
        detector: Detects hands in images; by default MediaPipe.
        detector_model: A ``hand_landmarker.task``, for MediaPipe versions without models.
        hands: Maximum number of hands to detect in an image.
        warn: Called with remarks, such as that an input is not used; by default :func:`warnings.warn`.

    Attributes:
        inputs: The modalities that the model encodes.
        targets: The modalities that the model decodes.
    """

    def __init__(
        self,
        run: Run,
        detector: Detector | None = None,
        detector_model: Path | None = None,
        hands: int = MAX_HANDS,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.run, self.warn = run, warn
        self.inputs: tuple[str, ...] = tuple(sources(run.model.pairs))
        self.targets: tuple[str, ...] = tuple(targets(run.model.pairs))
        self._detector, self._detector_model, self._hands = detector, detector_model, hands
        self._warnings: set[str] = set()

    def __repr__(self) -> str:
        return f"HandModel({', '.join(self.inputs)} -> {', '.join(self.targets)}, {self.run.metadata.layout})"

    @property
    def detector(self) -> Detector:
        """The detector; MediaPipe unless another one was given."""
        if self._detector is None:
            self._detector = mediapipe_detector(self._detector_model, self._hands)
        return self._detector

    @property
    def detector_name(self) -> str | None:
        """Name of the detector; None if none was used so far."""
        return None if self._detector is None else self._detector.name

    def predict(
        self,
        image: Any = None,
        *,
        bbox: Sequence[float] | None = None,
        hand: str | int | None = None,
        joints2d: Array | None = None,
        root: str = "wrist",
        inputs: Sequence[str] = (),
        samples: int = 20,
        scale_mm: float | None = None,
        seed: int = 0,
    ) -> list[Hand]:
        """Predict the hands of an image, largest first.

        Args:
            image: A path, a PIL image or uint8 ``(H, W, 3)`` RGB; not required with ``joints2d``.
            bbox: x, y, width, height of the hand, pixels; skips the detection.
            hand: ``left`` or ``right`` (0, 1); by default the detected side.
            joints2d: ``(J, 2)`` of one hand, pixels, in the run's joint order.
            root: Position of the root joint of ``joints2d``, ``wrist`` or ``palm``.
            inputs: Modalities to encode; by default all that are available.
            samples: Number of posterior samples for the uncertainty.
            scale_mm: Length of the scale bone (middle finger PIP to MCP); by default the mean of the training set.
            seed: Seed of the samples.

        Returns:
            The hands; an empty list if none is detected.

        Raises:
            UserError: If an input is missing or the run cannot predict 3D joints.
        """
        options = Options(inputs=tuple(dict.fromkeys(inputs)), samples=samples, scale_mm=scale_mm, seed=seed)
        check_options(self.run, options)
        pixels = None if image is None else to_rgb_array(image)
        if pixels is None and joints2d is None:
            raise UserError("nothing to predict: give an image, or joints2d")
        box = None if bbox is None else _box(bbox)
        if box is not None and pixels is not None:
            check_box(box, pixels)
        side = side_of(hand)
        detections = self._detect(pixels, box, side, joints2d, root, options)
        detections.sort(key=lambda d: -d.box[2] * d.box[3])
        hands = [predict_hand(self.run, pixels, d, options) for d in detections]
        calibration = calibration_of(self.run.metadata.training)
        for predicted in hands:
            if warning := uncalibrated_warning(calibration, predicted.inputs):
                self._warn_once(warning)
        return hands

    def encode(self, name: str, x: Any, hand: Any = None) -> Posterior:
        """Encode samples of one modality.

        Args:
            name: The modality.
            x: ``[B, *shape]``, or one sample without the batch axis; network-ready or stored (an image crop: uint8
                ``[B, S, S, 3]``).
            hand: ``left`` or ``right``, or ``[B]`` of 0 and 1; required by runs of protocol H.

        Returns:
            The posterior, mean and log-variance ``[B, D]``.

        Raises:
            UserError: If the run does not encode the modality, or the shape or hand side does not fit.

        Example:
            >>> load("default").encode("joints2d", torch.zeros(4, 21, 2), hand="left").mu.shape
            torch.Size([4, 30])
        """
        if name not in self.inputs:
            raise UserError(f"this run encodes no {name!r}; {nearest(name, self.inputs)}")
        modality = self.run.model.modalities[name]
        batch = torch.as_tensor(x)
        if batch.is_floating_point():
            batch = batch.float()
        if batch.dim() == len(modality.shape):
            batch = batch[None]
        device = next(self.run.model.parameters()).device
        with torch.inference_mode():
            ready = modality.augment(batch, View.identity(len(batch)))
            if tuple(ready.shape[1:]) != tuple(modality.shape):
                raise UserError(f"{name} of shape {list(batch.shape)}; this run's samples are {list(modality.shape)}")
            return self.run.model.encode(name, ready.to(device), self._sides(hand, len(batch)).to(device))

    def decode(self, name: str, z: Tensor) -> Tensor:
        """Decode latents into a modality.

        Args:
            name: The modality.
            z: Latents ``[..., D]``.

        Returns:
            Network-ready samples ``[..., *shape]``: 2D joints in crop fractions, 3D joints in units of the scale bone
            (the hand's own under a protocol with S, ``run.model.unit_mm`` long without).

        Raises:
            UserError: If the run does not decode the modality.

        Example:
            >>> load("default").decode("joints3d", torch.zeros(5, 30)).shape
            torch.Size([5, 21, 3])
        """
        if name not in self.targets:
            raise UserError(f"this run decodes no {name!r}; {nearest(name, self.targets)}")
        z = torch.as_tensor(z)
        with torch.inference_mode():
            flat = self.run.model.decode(name, z.reshape(-1, z.shape[-1])).float()
        return flat.unflatten(0, z.shape[:-1]) if z.dim() > 1 else flat[0]

    def interpolate(self, a: Posterior | Tensor, b: Posterior | Tensor, n: int = 8) -> Tensor:
        """Interpolate linearly between two latents.

        Args:
            a: Latent ``[D]`` or ``[1, D]``, or a posterior, whose mean is used.
            b: The other one.
            n: Number of latents, both ends included.

        Returns:
            ``[n, D]``.

        Example:
            >>> load("default").interpolate(torch.zeros(30), torch.ones(30), 3)[:, 0]
            tensor([0.0000, 0.5000, 1.0000])
        """
        start, end = _latent(a), _latent(b)
        weight = torch.linspace(0, 1, n, device=start.device)[:, None]
        return start + weight * (end - start)

    def sample(self, n: int, posterior: Posterior | None = None, seed: int = 0) -> Tensor:
        """Sample latents of the prior N(0, I), or of a posterior.

        Args:
            n: Number of samples.
            posterior: Posterior ``[B, D]``; None samples the prior.
            seed: Seed of the samples.

        Returns:
            ``[n, D]`` of the prior, ``[n, B, D]`` of a posterior.

        Example:
            >>> model = load("default")
            >>> model.decode("joints3d", model.sample(5)).shape
            torch.Size([5, 21, 3])
        """
        generator = torch.Generator().manual_seed(seed)
        if posterior is None:
            return torch.randn(n, self.run.model.latent_dim, generator=generator)
        return sample_latents(posterior, n, generator)

    def _detect(
        self,
        image: Array | None,
        box: Box | None,
        side: int | None,
        joints2d: Array | None,
        root: str,
        options: Options,
    ) -> list[Detection]:
        """Detections of the hands to predict: from 2D joints, from a box, or from the detector."""
        layout, needs_side = self.run.metadata.layout, self.run.knows_side and side is None
        if joints2d is not None:
            return [detection_from(box, side, joints2d, layout, root)]
        assert image is not None
        if box is None:
            try:
                detector = self.detector
            except UserError as error:
                alternative = "" if needs_joints(self.run, options) else ", or give its box with --bbox x,y,w,h"
                raise UserError(f"{error}{alternative}") from None
            return [_with_side(d, side) for d in detect_hands(detector, image, self._hands)]
        in_box = detection_from(box, side, name=layout)
        if not uses_joints(self.run, options) and not needs_side:
            return [in_box]
        try:
            detector = self.detector
        except UserError as error:
            if needs_joints(self.run, options) or needs_side:
                raise
            self._warn_once(f"predicting without 2D joints: {error}")
            return [in_box]
        detection = detect_in_box(detector, image, box)
        if detection is not None:
            return [_with_side(detection, side)]
        if needs_joints(self.run, options):
            return []
        self._warn_once("predicting without 2D joints: no hand is detected in the box")
        return [in_box]

    def _warn_once(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            self.warn(text)

    def _sides(self, hand: Any, n: int) -> Tensor:
        if not self.run.knows_side:
            return hand_side(torch.zeros(n), known=False)
        if hand is None:
            raise UserError("this run needs the hand side (protocol H): give hand='left' or 'right'")
        if isinstance(hand, str):
            hand = side_of(hand)
        return hand_side(torch.as_tensor(hand).expand(n))


def side_of(hand: str | int | None) -> int | None:
    """Convert a hand side to 0 (left) or 1 (right).

    Args:
        hand: ``left``, ``right``, 0, 1 or None.

    Returns:
        0 or 1; None stays None.

    Raises:
        UserError: For anything else.

    Example:
        >>> side_of("right")
        1
    """
    sides = {"left": LEFT, "right": RIGHT, LEFT: LEFT, RIGHT: RIGHT, None: None}
    if hand not in sides:
        raise UserError(f"handedness {hand!r}: give left or right")
    return sides[hand]


def _with_side(detection: Detection, side: int | None) -> Detection:
    return detection if side is None else replace(detection, side=side, confidence=None)


def _box(bbox: Sequence[float]) -> Box:
    if len(bbox) != 4:
        raise UserError(f"a box of {len(bbox)} numbers: give x, y, width, height")
    x, y, width, height = (float(v) for v in bbox)
    return x, y, width, height


def _latent(z: Posterior | Tensor) -> Tensor:
    point = z.mu if isinstance(z, Posterior) else torch.as_tensor(z)
    if point.dim() == 2 and len(point) == 1:
        point = point[0]
    if point.dim() != 1:
        raise UserError(f"a latent of shape {list(point.shape)}: interpolate takes latents [D]")
    return point
