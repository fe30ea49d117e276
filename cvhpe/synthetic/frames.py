"""Which hands a frame of the synthetic data set shows, and the frame itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cvhpe.synthetic.cameras import Shot, project
from cvhpe.synthetic.render import Frame, Subject, render, sample_appearance, visibility
from cvhpe.synthetic.rhd_writer import annotation
from cvhpe.synthetic.sampling import Placed, place_hands

Array = np.ndarray

IMAGE_MODALITIES = Shot(distance=(2.4, 6.0), off_axis=0.2, length_px=(105, 200), shift_px=45)
"""Camera of the pictures: RHD's distances and further, the hand well inside the frame."""

TWO_HANDED = 0.25
FRAMES_EACH = 8
"""Frames of one person, one after the other."""

PROPORTIONS = 0.5
"""Rendered hands keep half of the spread of skeletons: beyond that they stop looking like hands."""

# Evaluation frames and persons are numbered from here, so that they share nothing with training.
_EVALUATION = 1 << 40


@dataclass(frozen=True)
class Drawn:
    """One frame with its annotation in RHD's form."""

    frame: Frame
    annotation: dict[str, Array]


def scaled(shot: Shot, size: int) -> Shot:
    """A camera that sees in a frame of ``size`` px what ``shot`` sees in 320 px."""
    zoom = size / 320
    low, high = shot.length_px
    shift = None if shot.shift_px is None else shot.shift_px * zoom
    return replace(shot, length_px=(low * zoom, high * zoom), shift_px=shift)


def draw_frames(numbers: Array, seed: int, split: str, size: int) -> list[Drawn]:
    """The frames ``numbers`` ``[N]`` of a split of the data set ``seed``, each the same in any batch."""
    ids = np.asarray(numbers, np.int64) + (_EVALUATION if split == "evaluation" else 0)
    person = ids // FRAMES_EACH
    shot = scaled(IMAGE_MODALITIES, size)
    first = place_hands(ids, seed, person=person, proportions=PROPORTIONS, shot=shot, size=size)
    other = place_hands(
        ids,
        seed,
        person=person,
        proportions=PROPORTIONS,
        left=np.where(first.is_left, 0.0, 1.0),
        shot=shot,
        size=size,
        which=" of the other hand",
    )
    return [_draw(int(ids[row]), row, first, other, seed, size) for row in range(len(ids))]


def _draw(number: int, row: int, first: Placed, other: Placed, seed: int, size: int) -> Drawn:
    rng = np.random.default_rng([seed % 2**63, number, 2])
    K, length = first.K[row], float(first.length[row])
    both = bool(rng.random() < TWO_HANDED)
    moved = _move_other(first.joints[row], other.joints[row], K, length, size, both, rng)
    flesh, skin = sample_appearance(seed, int(first.person[row]))
    subjects = []
    for placed, joints in ((first, first.joints[row]), (other, moved))[: 1 + both]:
        bent = replace(flesh, bend=float(rng.normal(0, 0.35)), deviate=float(rng.normal(0, 0.15)))
        subjects.append(
            Subject(joints, placed.axes[row], placed.back[row], length, bool(placed.is_left[row]), bent, skin)
        )
    frame = render(subjects, K, size, rng)

    hands = np.stack([first.joints[row], moved])
    pixels = project(np.stack([K, K]), hands)
    visible = np.zeros((2, 21), bool)
    for k in range(1 + both):
        visible[k] = visibility(k, subjects[k], pixels[k], frame)
    left_first = slice(None) if first.is_left[row] else slice(None, None, -1)
    return Drawn(frame, annotation(hands[left_first], pixels[left_first], visible[left_first], K))


def _move_other(
    one: Array, joints: Array, K: Array, length: float, size: int, shown: bool, rng: np.random.Generator
) -> Array:
    """The second hand's joints where they belong: beside the first hand, or out of the picture.

    A frame annotates both hands whether it shows them or not. The one it does not show is a true hand of the
    same person, beside the frame and before the camera, none of its joints inside or visible.
    """
    focal, centre = K[0, 0], K[:2, 2]
    middle = one.mean(0)
    angle, spread, gap = rng.uniform(0, 2 * np.pi), rng.uniform(), rng.uniform(-0.15, 0.4) * length
    way = np.array([np.cos(angle), np.sin(angle)])
    at = middle[:2] / middle[2] * focal + centre
    reach = focal * length / middle[2]
    if shown:
        apart = 0.45 + 0.75 * spread
        if apart < 0.9:
            # Hands that overlap in the picture stand one before the other.
            gap = np.copysign(max(abs(gap), 0.35 * length), gap)
        inside = 0.12 * size
        at = np.clip(at + way * apart * reach, inside, size - inside)
    else:
        at = centre + way * (0.75 * size + 1.5 * reach * (1 + spread))
    z = middle[2] + gap
    return joints - joints.mean(0) + np.array([*((at - centre) / focal * z), z])
