"""Rendered frames with their annotations: which hands a frame shows, and where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cvhpe.synthetic.cameras import CameraRanges, project_pinhole
from cvhpe.synthetic.render import HandInstance, RenderedFrame, joint_visibility, render_hands, sample_appearance
from cvhpe.synthetic.rhd_writer import rhd_annotation
from cvhpe.synthetic.sampling import PlacedHands, sample_hands

Array = np.ndarray

FRAME_CAMERAS = CameraRanges(distance=(2.4, 6.0), off_axis=0.2, length_px=(105, 200), shift_px=45)
"""RHD's distances and farther, the hand well inside the frame."""

TWO_HANDS_PROB = 0.25
FRAMES_PER_PERSON = 8

PROPORTIONS = 0.5
"""Rendered hands have half of the skeletons' spread of proportions: beyond that they stop looking like hands."""

# Evaluation frames and persons are numbered from here, so that they share nothing with training.
_EVALUATION = 1 << 40


@dataclass(frozen=True)
class LabelledFrame:
    """One frame with its annotation in RHD's form (:func:`cvhpe.synthetic.rhd_writer.rhd_annotation`)."""

    frame: RenderedFrame
    annotation: dict[str, Array]


def scale_cameras(ranges: CameraRanges, size: int) -> CameraRanges:
    """Cameras that show in a frame of another size what the given ones show in 320 px.

    Args:
        ranges: For 320 px.
        size: Side of the frame, px.

    Returns:
        Ranges for ``size`` px.
    """
    zoom = size / 320
    low, high = ranges.length_px
    shift = None if ranges.shift_px is None else ranges.shift_px * zoom
    return replace(ranges, length_px=(low * zoom, high * zoom), shift_px=shift)


def render_frames(numbers: Array, seed: int, split: str, size: int) -> list[LabelledFrame]:
    """Render frames of a split, each the same in any batch.

    Args:
        numbers: ``[N]`` frame numbers.
        seed: Of the data set.
        split: ``training`` or ``evaluation``.
        size: Side of the frames, px.

    Returns:
        The frames.
    """
    ids = np.asarray(numbers, np.int64) + (_EVALUATION if split == "evaluation" else 0)
    sample = partial(
        sample_hands,
        ids,
        seed,
        person=ids // FRAMES_PER_PERSON,
        proportions=PROPORTIONS,
        cameras=scale_cameras(FRAME_CAMERAS, size),
        size=size,
    )
    first = sample()
    other = sample(left=np.where(first.is_left, 0.0, 1.0), stream=" of the other hand")
    return [_render_frame(int(ids[row]), row, first, other, seed, size) for row in range(len(ids))]


def _render_frame(number: int, row: int, first: PlacedHands, other: PlacedHands, seed: int, size: int) -> LabelledFrame:
    rng = np.random.default_rng([seed % 2**63, number, 2])
    K, length = first.K[row], float(first.length[row])
    two_hands = bool(rng.random() < TWO_HANDS_PROB)
    second = _place_second(first.joints[row], other.joints[row], K, length, size, two_hands, rng)
    flesh, skin = sample_appearance(seed, int(first.person[row]))
    hands = []
    for placed, joints in ((first, first.joints[row]), (other, second))[: 1 + two_hands]:
        bent = replace(flesh, bend=float(rng.normal(0, 0.35)), deviate=float(rng.normal(0, 0.15)))
        is_left = bool(placed.is_left[row])
        hands.append(HandInstance(joints, placed.axes[row], placed.back[row], length, is_left, bent, skin))
    frame = render_hands(hands, K, size, rng)

    xyz = np.stack([first.joints[row], second])
    pixels = project_pinhole(np.stack([K, K]), xyz)
    visible = np.zeros((2, 21), bool)
    for k, hand in enumerate(hands):
        visible[k] = joint_visibility(k, hand, pixels[k], frame)
    left_first = slice(None) if first.is_left[row] else slice(None, None, -1)
    return LabelledFrame(frame, rhd_annotation(xyz[left_first], pixels[left_first], visible[left_first], K))


def _place_second(
    first: Array, joints: Array, K: Array, length: float, size: int, shown: bool, rng: np.random.Generator
) -> Array:
    """The second hand's joints: near the first hand if the frame shows it, else outside the frame.

    A frame annotates both hands whether it shows them or not. The one that it does not show is a valid hand of the same
    person in front of the camera, none of its joints inside the frame or visible.
    """
    focal, centre = K[0, 0], K[:2, 2]
    middle = first.mean(0)
    angle, spread, gap = rng.uniform(0, 2 * np.pi), rng.uniform(), rng.uniform(-0.15, 0.4) * length
    direction = np.array([np.cos(angle), np.sin(angle)])
    at = middle[:2] / middle[2] * focal + centre
    length_px = focal * length / middle[2]
    if shown:
        distance = 0.45 + 0.75 * spread
        if distance < 0.9:
            # Hands that overlap in the image are at different depths.
            gap = np.copysign(max(abs(gap), 0.35 * length), gap)
        border = 0.12 * size
        at = np.clip(at + direction * distance * length_px, border, size - border)
    else:
        at = centre + direction * (0.75 * size + 1.5 * length_px * (1 + spread))
    z = middle[2] + gap
    return joints - joints.mean(0) + np.array([*((at - centre) / focal * z), z])
