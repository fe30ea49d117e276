"""A trained model in a notebook or a program: photographs in, 3D hands out, and the latent space to walk in.

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
    found_by_hand,
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
    """Open a run for use.

    run: a run folder, a model file, or ``default``: 2D joints to 3D, trained on synthetic hands, part of the
        package. detector: what finds hands in pictures; by default MediaPipe, loaded when first needed, with
        ``detector_model``, a ``hand_landmarker.task``, where its version carries no models. hands: the most
        that it looks for in a picture.
    """
    return HandModel(
        load_run(run, device), detector, None if detector_model is None else Path(detector_model), hands=hands
    )


class HandModel:
    """A trained model with its metadata. ``inputs`` and ``targets``: what it encodes and decodes.

    run: weights, configuration, layout and scale (:class:`cvhpe.runs.run_dir.Run`).
    tell: where remarks go, such as that a run's second input is left out; by default Python warnings.
    """

    def __init__(
        self,
        run: Run,
        detector: Detector | None = None,
        detector_model: Path | None = None,
        hands: int = MAX_HANDS,
        tell: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.run, self.tell = run, tell
        self.inputs: tuple[str, ...] = tuple(sources(run.model.pairs))
        self.targets: tuple[str, ...] = tuple(targets(run.model.pairs))
        self._detector, self._detector_model, self._hands = detector, detector_model, hands
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"HandModel({', '.join(self.inputs)} -> {', '.join(self.targets)}, {self.run.metadata.layout})"

    @property
    def detector(self) -> Detector:
        """What finds hands in pictures; MediaPipe unless another one was given."""
        if self._detector is None:
            self._detector = mediapipe_detector(self._detector_model, self._hands)
        return self._detector

    @property
    def detector_name(self) -> str | None:
        """The detector that was used so far, None where none was needed."""
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
        """The hands of a picture, largest first; an empty list where none is found.

        image: a path, a PIL image or uint8 ``(H, W, 3)`` RGB. bbox: x, y, width, height px of one hand, which
            is then not searched for. hand: ``left`` or ``right`` (0, 1); by default what the detector says.
        joints2d: ``(J, 2)`` px of one hand in the run's joint order; no picture is needed beside them for a run
            that encodes them alone. root: what their root joint is, ``wrist`` or ``palm``.
        inputs, samples, scale_mm, seed: see :class:`cvhpe.inference.predict.Options`.

        Raises :class:`UserError` where the run lacks what it needs, in one line.
        """
        options = Options(inputs=tuple(dict.fromkeys(inputs)), samples=samples, scale_mm=scale_mm, seed=seed)
        check_options(self.run, options)
        picture = None if image is None else to_rgb_array(image)
        if picture is None and joints2d is None:
            raise UserError("predict what? give a picture, or joints2d")
        box = None if bbox is None else _box(bbox)
        if box is not None and picture is not None:
            check_box(box, picture)
        side = side_of(hand)
        found = self._find(picture, box, side, joints2d, root, options)
        found.sort(key=lambda one: -one.box[2] * one.box[3])
        hands = [predict_hand(self.run, picture, one, options) for one in found]
        calibration = calibration_of(self.run.metadata.training)
        for one in hands:
            if told := uncalibrated_warning(calibration, one.inputs):
                self._tell_once(told)
        return hands

    def encode(self, name: str, x: Any, hand: Any = None) -> Posterior:
        """The posterior ``[B, D]`` of samples of one modality.

        x: ``[B, *shape]``, or one sample without the batch axis; network-ready, or as packed (a picture uint8
            ``[B, S, S, 3]`` of the hand's crop). hand: ``left`` or ``right``, or ``[B]`` of 0 and 1; runs of
            protocol H need it.
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
            seen = modality.augment(batch, View.identity(len(batch)))
            if tuple(seen.shape[1:]) != tuple(modality.shape):
                raise UserError(f"{name} of shape {list(batch.shape)}; this run's samples are {list(modality.shape)}")
            return self.run.model.encode(name, seen.to(device), self._sides(hand, len(batch)).to(device))

    def decode(self, name: str, z: Tensor) -> Tensor:
        """Latents ``[..., D]`` -> network-ready samples ``[..., *shape]``: 2D joints in crop fractions, 3D in bones.

        A bone is the hand's own under a protocol with S, ``run.model.unit_mm`` long under one without.
        """
        if name not in self.targets:
            raise UserError(f"this run decodes no {name!r}; {nearest(name, self.targets)}")
        z = torch.as_tensor(z)
        with torch.inference_mode():
            flat = self.run.model.decode(name, z.reshape(-1, z.shape[-1])).float()
        return flat.unflatten(0, z.shape[:-1]) if z.dim() > 1 else flat[0]

    def interpolate(self, a: Posterior | Tensor, b: Posterior | Tensor, n: int = 8) -> Tensor:
        """``n`` latents on the straight line from ``a`` to ``b``, both included: ``[n, D]`` of single samples.

        a, b: latents ``[D]`` or ``[1, D]``, or posteriors, of which the means are taken.

        >>> load("default").interpolate(torch.zeros(30), torch.ones(30), 3)[:, 0]
        tensor([0.0000, 0.5000, 1.0000])
        """
        start, end = (_latent(one) for one in (a, b))
        share = torch.linspace(0, 1, n, device=start.device)[:, None]
        return start + share * (end - start)

    def sample(self, n: int, posterior: Posterior | None = None, seed: int = 0) -> Tensor:
        """``n`` latents of the prior N(0, I), ``[n, D]``, or of a posterior ``[B, D]``, ``[n, B, D]``.

        >>> model = load("default")
        >>> model.decode("joints3d", model.sample(5)).shape
        torch.Size([5, 21, 3])
        """
        generator = torch.Generator().manual_seed(seed)
        if posterior is None:
            return torch.randn(n, self.run.model.latent_dim, generator=generator)
        return sample_latents(posterior, n, generator)

    # -- finding hands -------------------------------------------------------------------------------

    def _find(
        self,
        picture: Array | None,
        box: Box | None,
        side: int | None,
        joints2d: Array | None,
        root: str,
        options: Options,
    ) -> list[Detection]:
        layout = self.run.metadata.layout
        if joints2d is not None:
            return [found_by_hand(box, side, joints2d, layout, root)]
        assert picture is not None
        if box is None:
            try:
                detector = self.detector
            except UserError as error:
                instead = "" if needs_joints(self.run, options) else ", or say where the hand is with --bbox x,y,w,h"
                raise UserError(f"{error}{instead}") from None
            return [_with_side(one, side) for one in detect_hands(detector, picture, self._hands)]
        pointed = found_by_hand(box, side, name=layout)
        if not uses_joints(self.run, options) and not (self.run.knows_side and side is None):
            return [pointed]
        try:
            detector = self.detector
        except UserError as error:
            if needs_joints(self.run, options) or (self.run.knows_side and side is None):
                raise
            self._tell_once(f"predicting without 2D joints: {error}")
            return [pointed]
        one = detect_in_box(detector, picture, box)
        if one is not None:
            return [_with_side(one, side)]
        if needs_joints(self.run, options):
            return []
        self._tell_once("predicting without 2D joints: the detector finds no hand in the box")
        return [pointed]

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.tell(text)

    def _sides(self, hand: Any, n: int) -> Tensor:
        if not self.run.knows_side:
            return hand_side(torch.zeros(n), known=False)
        if hand is None:
            raise UserError("this run must be told which hand it sees (protocol H): give hand='left' or 'right'")
        if isinstance(hand, str):
            hand = side_of(hand)
        return hand_side(torch.as_tensor(hand).expand(n))


def side_of(hand: str | int | None) -> int | None:
    """``left`` or ``right`` as 0 or 1; None stays None.

    >>> side_of("right")
    1
    """
    sides = {"left": LEFT, "right": RIGHT, LEFT: LEFT, RIGHT: RIGHT, None: None}
    if hand not in sides:
        raise UserError(f"hand {hand!r}: left or right")
    return sides[hand]


def _with_side(found: Detection, side: int | None) -> Detection:
    if side is None:
        return found
    return Detection(
        box=found.box, side=side, joints2d_px=found.joints2d_px, layout=found.layout, root=found.root, confidence=None
    )


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
        raise UserError(f"a latent of shape {list(point.shape)}: walk goes from one point [D] to another")
    return point
