"""Renders one synthetic frame: RGB, depth and part mask of hands, light and surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from cvhpe.synthetic.background import paint_background, paint_occluder
from cvhpe.synthetic.light import Light, ambient_occlusion, shade, shadow_map
from cvhpe.synthetic.skin import Skin, SurfaceMaterial, paint_skin
from cvhpe.synthetic.sphere_tracing import Camera, trace
from cvhpe.synthetic.surface import PALM_PART, PERSON_PART, Body, Flesh, arm_direction, hand_bodies, sleeve, stick

Array = np.ndarray
_F = np.float32
_FAR = _F(1e9)

# RHD's mask: 0 background, 1 person, then each hand's 15 finger parts (from the tip) and its palm.
PERSON, FIRST_LEFT, FIRST_RIGHT = 1, 2, 18


@dataclass(frozen=True)
class HandInstance:
    """One hand of a frame, camera frame, mm.

    Attributes:
        joints: ``[21, 3]`` hand21 with a wrist.
        axes: ``[3, 3]`` and back: ``[5, 3, 3]``, as in :class:`~cvhpe.synthetic.sampling.PlacedHands`.
        size: Hand length.
        is_left: Whether it is a left hand.
        flesh: Its thickness.
        skin: Its colours.
    """

    joints: Array
    axes: Array
    back: Array
    size: float
    is_left: bool
    flesh: Flesh
    skin: Skin


@dataclass(frozen=True)
class RenderedFrame:
    """The images of a frame.

    Attributes:
        rgb: ``[S, S, 3]`` uint8.
        depth: ``[S, S]`` float32, mm along the optical axis.
        mask: ``[S, S]`` uint8, RHD's classes.
        owner: ``[S, S]`` int8, which hand a pixel shows, -1 for none.
    """

    rgb: Array
    depth: Array
    mask: Array
    owner: Array


@dataclass
class _Layer:
    """The visible pixels of one body."""

    body: Body
    subject: int
    pixel: Array
    z: Array
    cover: Array
    point: Array
    normal: Array
    capsule: Array
    along: Array
    back: Array


def sample_appearance(seed: int, person: int) -> tuple[Flesh, Skin]:
    """Sample the thickness and the skin of a person's hands.

    Args:
        seed: Of the data set.
        person: Integer id.

    Returns:
        Thickness and skin.
    """
    rng = np.random.default_rng([seed % 2**63, person, 1])
    thick, palm, arm = np.exp(rng.normal(0, (0.09, 0.06, 0.07)))
    flesh = Flesh(thick=float(thick), taper=float(np.exp(rng.normal(0, 0.07))), palm=float(palm), arm=float(arm))
    return flesh, Skin.sample(rng)


@dataclass(frozen=True)
class _Fabric:
    """The material of the sleeves, or of a held object, of a frame."""

    colour: Array
    wave: Array
    contrast: float
    striped: bool
    gloss: float

    @staticmethod
    def sample(rng: np.random.Generator) -> _Fabric:
        colour = rng.uniform(0.02, 0.8, 3) ** 1.5 * 0.6 + 0.4 * rng.uniform(0.02, 0.7)
        way = rng.normal(size=3)
        wave = way / np.linalg.norm(way) * rng.uniform(0.05, 0.5)
        striped = bool(rng.random() < 0.5)
        return _Fabric(
            colour.astype(_F), wave.astype(_F), float(rng.choice([0.0, 0.12, 0.45])), striped, rng.uniform(0, 0.15)
        )

    def paint(self, normal: Array, point: Array) -> SurfaceMaterial:
        wave = np.sin(self.wave @ point)
        shade = 1 + self.contrast * np.sign(wave) if self.striped else 1 + 0.12 * wave
        n = point.shape[1]
        way = self.wave / np.sqrt((self.wave * self.wave).sum())
        tilt = np.cross(normal, way[:, None], axis=0) * (0.15 * wave)
        albedo = np.minimum(np.maximum(self.colour[:, None] * shade, _F(0.01)), 1)
        return SurfaceMaterial(albedo, np.full(n, self.gloss, _F), np.full(n, 12, _F), tilt)


def _visible_layers(scene: list[tuple[Body, int]], camera: Camera, depth: Array) -> list[_Layer]:
    """The visible pixels of each body; fills ``depth`` ``[S * S]`` with the nearest one's."""
    hits = trace([body for body, _ in scene], camera)
    solid = hits.cover >= 0.5
    np.minimum.at(depth, hits.pixel[solid], hits.z[solid])
    keep = np.where(solid, hits.z <= depth[hits.pixel], hits.z < depth[hits.pixel])
    names = ("pixel", "z", "cover", "point", "normal", "capsule", "along", "back")
    body_of = hits.body[keep]
    fields = [getattr(hits, name)[..., keep] for name in names]
    bounds = np.searchsorted(body_of, np.arange(len(scene) + 1))
    return [
        _Layer(body, subject, *(f[..., low:high] for f in fields))
        for (body, subject), low, high in zip(scene, bounds[:-1], bounds[1:], strict=True)
        if high > low
    ]


def _arm_length(hand: HandInstance) -> float:
    """Length of the arm, hand lengths: it leaves most frames, but does not reach the camera."""
    towards_camera = -float(arm_direction(hand.axes, hand.flesh)[2]) * hand.size
    room = 0.55 * float(hand.joints[0, 2])
    return min(2.6, max(0.4, room / towards_camera)) if towards_camera > 0 else 2.6


def _scene(hands: list[HandInstance], rng: np.random.Generator) -> list[tuple[Body, int]]:
    """Every body of a frame and the index of its hand, -1 for objects."""
    scene = []
    for number, hand in enumerate(hands):
        start, loose = rng.uniform(0.08, 0.8), rng.uniform(0.04, 0.35)
        dressed = bool(rng.random() < 0.5)
        reach = _arm_length(hand)
        bare = start + 0.1 if dressed else reach
        made = hand_bodies(hand.joints, hand.axes, hand.back, hand.size, hand.flesh, max(bare, 0.2))
        if dressed:
            made.append(sleeve(hand.joints[0], hand.axes, hand.size, hand.flesh, start, max(reach, start + 0.1), loose))
        scene += [(body, number) for body in made]
        if rng.random() < 0.10:
            # A held object: a stick, can or pen across the palm, where curled fingers close on it.
            radius = rng.uniform(0.02, 0.16) * hand.size
            grip = hand.joints[[5, 9, 13, 17]].mean(0) + hand.axes[2] * (radius + 0.07 * hand.size)
            way = hand.axes[0] + rng.normal(0, 0.2, 3)
            way = way / np.linalg.norm(way) * hand.size
            scene.append((stick(grip - way * rng.uniform(0.3, 0.9), grip + way * rng.uniform(0.3, 0.9), radius), -1))
    return scene


def _colours(
    layers: list[_Layer], hands: list[HandInstance], light: Light, openness: Array, size: int, rng: np.random.Generator
) -> list[Array]:
    """Linear RGB ``[3, N]`` of every layer's pixels."""
    casting = [
        (hand.joints[a], hand.joints[b], 0.045 * hand.size)
        for hand in hands
        for f in range(5)
        for a, b in ((0, 1 + 4 * f), (1 + 4 * f, 2 + 4 * f), (2 + 4 * f, 3 + 4 * f), (3 + 4 * f, 4 + 4 * f))
        if (f, a) != (0, 0)
    ]
    casting += [
        (hand.joints[0], hand.joints[0] + arm_direction(hand.axes, hand.flesh) * hand.size, 0.12 * hand.size)
        for hand in hands
    ]
    a, b, radius = (np.array(c, _F) for c in zip(*casting, strict=True))
    if not layers:
        return []
    point = np.concatenate([layer.point + layer.normal * _F(1.5) for layer in layers], 1)
    pixel = np.concatenate([layer.pixel for layer in layers])
    lit = shadow_map(pixel, point, size, a, b, radius, light.direction[0], light.soft)
    parts = np.split(lit, np.cumsum([len(layer.pixel) for layer in layers])[:-1])
    fabrics = {kind: _Fabric.sample(rng) for kind in ("cloth", "object")}
    colours = []
    for layer, lit in zip(layers, parts, strict=True):
        if layer.body.kind == "skin":
            hand = hands[layer.subject]
            material = paint_skin(
                layer.body,
                hand.skin,
                layer.point,
                layer.normal,
                layer.capsule,
                layer.along,
                layer.back,
                hand.joints[0].astype(_F),
                hand.axes,
                hand.size,
            )
        else:
            material = fabrics[layer.body.kind].paint(layer.normal, layer.point)
        normal = layer.normal + material.tilt
        normal /= np.sqrt((normal * normal).sum(0))
        surface = material.albedo, material.gloss, material.shine
        colours.append(shade(layer.point, normal, *surface, openness[layer.pixel], lit, light))
    return colours


def _classes(layer: _Layer, is_left: bool) -> Array:
    """RHD's mask classes of a layer's pixels."""
    part = layer.body.part[layer.capsule]
    first = FIRST_LEFT if is_left else FIRST_RIGHT
    return np.where(part < 0, 0, np.where(part == PERSON_PART, PERSON, first + np.minimum(part, PALM_PART))).astype(
        np.uint8
    )


def _exposure(colours: list[Array], rng: np.random.Generator) -> float:
    """The exposure that gives the hand a random brightness."""
    mean = float(np.mean([c.mean() for c in colours])) if colours else 0.3
    brightness = rng.uniform(0.13, 0.5)
    return float((brightness / max(mean, 1e-3)) ** 0.8)


@cache
def _grain() -> Array:
    """Normal noise to take slices of: a million new numbers a frame would cost more than the hand."""
    return np.random.default_rng(20180619).standard_normal(1 << 21, np.float32)


def _sensor(image: Array, rng: np.random.Generator) -> Array:
    """Lens and sensor: blur, white balance, contrast, noise; ``[3, S, S]`` to uint8 ``[S, S, 3]``."""
    blur = max(0.0, rng.normal(0.35, 0.35))
    gain, contrast, lift = np.exp(rng.normal(0, 0.05, 3)), rng.uniform(0.8, 1.15), rng.normal(0, 0.03)
    sigma, at = max(0.0, rng.normal(0, 4.0)), int(rng.integers(_grain().size - image.size))
    scale = 255 * contrast * gain
    image = image * scale.astype(_F)[:, None, None]
    image += (255 * (0.5 + lift) - 0.5 * scale).astype(_F)[:, None, None]
    if blur > 0.25:
        side = _F(np.exp(-0.5 / blur**2))
        total = 1 + 2 * side
        image[:, :, 1:-1] = (image[:, :, 1:-1] + side * (image[:, :, :-2] + image[:, :, 2:])) / total
        image[:, 1:-1] = (image[:, 1:-1] + side * (image[:, :-2] + image[:, 2:])) / total
    if sigma > 0.3:
        image += _grain()[at : at + image.size].reshape(image.shape) * _F(sigma)
    np.minimum(np.maximum(image, 0, out=image), 255, out=image)
    return np.ascontiguousarray((image + _F(0.5)).astype(np.uint8).transpose(1, 2, 0))


def render_hands(hands: list[HandInstance], K: Array, size: int, rng: np.random.Generator) -> RenderedFrame:
    """Render a frame.

    Args:
        hands: One or more.
        K: ``[3, 3]`` intrinsics.
        size: Side of the frame, px.
        rng: Source of randomness.

    Returns:
        The images.
    """
    camera = Camera(float(K[0, 0]), (float(K[0, 2]), float(K[1, 2])), size)
    light = Light.sample(rng)
    depth = np.full(size * size, _FAR)
    layers = _visible_layers(_scene(hands, rng), camera, depth)
    hand = depth < _FAR
    behind = float(depth[hand].max()) if hand.any() else float(max(s.joints[:, 2].max() for s in hands))
    image, wall = paint_background(rng, size, behind)

    scale = float(K[0, 0]) * hands[0].size / float(hands[0].joints[:, 2].mean())
    near = np.minimum(depth, _F(behind + 200)).reshape(size, size)
    openness = ambient_occlusion(near, 0.16 * scale, 0.10 * hands[0].size)
    colours = _colours(layers, hands, light, openness.reshape(-1), size, rng)
    exposure = _exposure(colours, rng)

    flat = image.reshape(3, -1)
    mask, owner = np.zeros(size * size, np.uint8), np.full(size * size, -1, np.int8)
    done = [(_tone_map(c * _F(exposure)), layer) for c, layer in zip(colours, layers, strict=True)]
    for colour, layer in done:
        solid = layer.cover >= 0.5
        pixel = layer.pixel[solid]
        # At a silhouette, a solid pixel mixes with what is behind it.
        flat[:, pixel] += np.minimum(layer.cover[solid], 1) * (colour[:, solid] - flat[:, pixel])
        mask[pixel] = _classes(layer, layer.subject >= 0 and hands[layer.subject].is_left)[solid]
        owner[pixel] = layer.subject if layer.body.kind == "skin" else -1
    for colour, layer in done:
        thin = layer.cover < 0.5
        pixel = layer.pixel[thin]
        flat[:, pixel] += layer.cover[thin] * (colour[:, thin] - flat[:, pixel])
    full_depth = np.where(depth < _FAR, depth, wall.reshape(-1)).reshape(size, size)
    classes, owners = mask.reshape(size, size), owner.reshape(size, size)

    if rng.random() < 0.2:
        middle = hands[0].joints.mean(0)
        at = middle[:2] / middle[2] * K[0, 0] + K[:2, 2]
        occluder = paint_occluder(rng, size, at, scale)
        if occluder is not None:
            colour, cover = occluder
            image = np.where(cover, colour, image)
            closest = min(float(s.joints[:, 2].min()) for s in hands)
            full_depth = np.where(cover, _F(max(60.0, closest - rng.uniform(30, 150))), full_depth)
            classes[cover], owners[cover] = 0, -1
    return RenderedFrame(_sensor(image, rng), full_depth.astype(_F), classes, owners)


def _tone_map(linear: Array) -> Array:
    """Display values of linear light, highlights compressed."""
    linear = np.maximum(linear, 0)
    soft = np.where(linear > 0.6, 0.6 + 0.4 * np.tanh((linear - 0.6) / 0.4), linear)
    return soft ** _F(1 / 2.2)


# For each joint of hand21 the parts of its own flesh, which do not hide it.
_OWN = np.zeros((21, PERSON_PART + 1), bool)
_OWN[0, [PALM_PART, PERSON_PART, 2]] = True
for _finger in range(5):
    for _joint, _parts in enumerate(((2, PALM_PART), (2, 1), (1, 0), (0,))):
        for _part in _parts:
            _OWN[1 + 4 * _finger + _joint, _part if _part == PALM_PART else 3 * _finger + _part] = True
    _OWN[1 + 4 * _finger, PALM_PART] = True
_OWN[2, PALM_PART] = True


def joint_visibility(subject: int, hand: HandInstance, pixels: Array, frame: RenderedFrame) -> Array:
    """Which joints of a hand are visible.

    A joint lies inside the flesh, so it is visible where its own flesh is, less than the thickness of a palm in front
    of it. Anything else in front of it hides it.

    Args:
        subject: Index of the hand in the frame.
        hand: The hand.
        pixels: ``[21, 2]`` its projected joints, px.
        frame: The rendered frame.

    Returns:
        ``[21]`` bool.
    """
    side = len(frame.depth)
    x, y = np.round(np.clip(pixels, -1e6, 1e6)).astype(int).T
    z = hand.joints[:, 2]
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side) & (z > 0)
    at = np.clip(y, 0, side - 1), np.clip(x, 0, side - 1)
    first = FIRST_LEFT if hand.is_left else FIRST_RIGHT
    part = frame.mask[at].astype(int) - first
    part = np.where(frame.mask[at] == PERSON, PERSON_PART, part)
    known = (frame.owner[at] == subject) & (part >= 0) & (part <= PERSON_PART)
    own = known & _OWN[np.arange(21), np.clip(part, 0, PERSON_PART)]
    gap = z - frame.depth[at]
    return inside & (gap < np.where(own, 0.22, 0.04) * hand.size)
