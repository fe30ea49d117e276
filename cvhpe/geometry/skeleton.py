"""Joint layouts: the order of each data set's joints, and the maps between them.

The canonical layout is ``hand21``: the root, then thumb, index, middle, ring and little finger, each from base to tip.
Every 21-joint layout is a permutation of it. ``icvl16`` and ``nyu14`` label other joints and cannot be converted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvhpe.errors import UserError, nearest

Array = np.ndarray
RootKind = Literal["wrist", "palm", "any"]

FINGERS = ("thumb", "index", "middle", "ring", "little")
COLOURS: Mapping[str, str] = {
    "thumb": "#e4572e",
    "index": "#f2a541",
    "middle": "#4caf50",
    "ring": "#2a9df4",
    "little": "#9b5de5",
}
"""The plot colour of each finger."""

LEFT, RIGHT = 0, 1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The joints of a data set, in its own order.

    Attributes:
        name: As in run folders and joints files.
        joints: Joint names; equal names mean the same joint in every layout.
        bones: (parent, child) index pairs.
        root: Index of the joint that root-relative coordinates are relative to.
        root_kind: What that joint is on the hand; ``any`` if the layout does not fix it.
        scale_bone: (child, parent) of the bone that scale normalisation divides by: middle PIP and middle MCP, or the
            layout's nearest equivalent.
        palm: (root, root_shift_joint): the wrist and the middle MCP that it moves towards to become a palm; None if
            the root is a palm already or no such pair is labelled.
        fingers: Finger -> its joints from base to tip.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    root: int
    root_kind: RootKind
    scale_bone: tuple[int, int]
    palm: tuple[int, int] | None
    fingers: Mapping[str, tuple[int, ...]]

    @property
    def root_shift(self) -> tuple[int, int]:
        """The root joint and the joint it shifts towards where a labelled wrist becomes a palm.

        A layout whose root is a palm already has no such pair. It gets the base of its scale bone, towards which
        its root shifts by the weight 0.

        >>> layout("rhd").root_shift, layout("nyu14").root_shift
        ((0, 12), (13, 13))
        """
        return self.palm or (self.root, self.scale_bone[1])

    def root_shift_weight(self, labelled: str, wanted: str) -> float:
        """How far a labelled root joint shifts along :attr:`root_shift` to become the wanted one.

        Args:
            labelled: ``wrist`` or ``palm``, what the root is labelled as.
            wanted: ``wrist`` or ``palm``, what a run predicts.

        Returns:
            0.5 if a wrist becomes a palm, otherwise 0.

        Example:
            >>> layout("rhd").root_shift_weight("wrist", "palm")
            0.5
        """
        return 0.5 if (labelled, wanted) == ("wrist", "palm") and self.palm is not None else 0.0

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Index of a joint.

        Args:
            joint: Its name.

        Returns:
            Its place in :attr:`joints`.

        Raises:
            UserError: The layout has no such joint.

        Example:
            >>> layout("rhd").index("middle_mcp")
            12
        """
        if joint not in self.joints:
            raise UserError(f"layout {self.name!r} has no joint {joint!r}; {nearest(joint, self.joints)}")
        return self.joints.index(joint)

    def colour(self, joint: int) -> str:
        """The plot colour of a joint, and of the bone that ends in it."""
        return next((COLOURS[f] for f, joints in self.fingers.items() if joint in joints), "#dddddd")


_PARTS = dict.fromkeys(FINGERS, ("mcp", "pip", "dip", "tip")) | {"thumb": ("cmc", "mcp", "ip", "tip")}
_HAND21 = ("root", *(f"{f}_{part}" for f in FINGERS for part in _PARTS[f]))


def _hand21(name: str, order: Sequence[int], root_kind: RootKind) -> Layout:
    """A 21-joint layout from its order: canonical joint ``i`` is native joint ``order[i]``."""
    names = [""] * 21
    for canonical, native in enumerate(order):
        names[native] = _HAND21[canonical]
    fingers = {f: tuple(order[1 + 4 * k : 5 + 4 * k]) for k, f in enumerate(FINGERS)}
    root = order[0]
    bones = tuple((a, b) for chain in fingers.values() for a, b in zip((root, *chain), chain, strict=False))
    return Layout(
        name=name,
        joints=tuple(names),
        bones=bones,
        root=root,
        root_kind=root_kind,
        scale_bone=(order[10], order[9]),
        palm=None if root_kind == "palm" else (root, order[9]),
        fingers=fingers,
    )


def _icvl16() -> Layout:
    joints = ("palm", *(f"{f}_{part}" for f in FINGERS for part in ("root", "mid", "tip")))
    fingers = {f: tuple(range(1 + 3 * k, 4 + 3 * k)) for k, f in enumerate(FINGERS)}
    bones = tuple((a, b) for chain in fingers.values() for a, b in zip((0, *chain), chain, strict=False))
    return Layout(
        name="icvl16",
        joints=joints,
        bones=bones,
        root=0,
        root_kind="palm",
        scale_bone=(8, 7),
        palm=None,
        fingers=fingers,
    )


def _nyu14() -> Layout:
    # Two joints a finger, tip first, three on the thumb, both sides of the wrist, the palm. No knuckle is
    # labelled, so the scale comes from the one pair that sits on a rigid part: palm and wrist.
    joints = tuple(f"{f}_{part}" for f in ("little", "ring", "middle", "index") for part in ("tip", "mid"))
    joints += ("thumb_tip", "thumb_mid", "thumb_base", "wrist_1", "wrist_2", "palm")
    fingers = {"thumb": (10, 9, 8), "index": (7, 6), "middle": (5, 4), "ring": (3, 2), "little": (1, 0)}
    bones = tuple((a, b) for chain in fingers.values() for a, b in zip((13, *chain), chain, strict=False))
    return Layout(
        name="nyu14",
        joints=joints,
        bones=(*bones, (13, 11), (13, 12)),
        root=13,
        root_kind="palm",
        scale_bone=(11, 13),
        palm=None,
        fingers=fingers,
    )


_BASE_TO_TIP = tuple(range(21))
_RHD = (0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17)
_STB = (0, 17, 18, 19, 20, 13, 14, 15, 16, 9, 10, 11, 12, 5, 6, 7, 8, 1, 2, 3, 4)
_MSRA = (0, 17, 18, 19, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
_FPHAB = (0, 1, 6, 7, 8, 2, 9, 10, 11, 3, 12, 13, 14, 4, 15, 16, 17, 5, 18, 19, 20)
_INTERHAND = (20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16)

LAYOUTS: Mapping[str, Layout] = {
    entry.name: entry
    for entry in (
        _hand21("hand21", _BASE_TO_TIP, "any"),
        _hand21("rhd", _RHD, "wrist"),
        _hand21("stb", _STB, "palm"),
        _hand21("freihand", _BASE_TO_TIP, "wrist"),
        _hand21("coco21", _BASE_TO_TIP, "wrist"),
        _hand21("msra", _MSRA, "wrist"),
        _hand21("fphab", _FPHAB, "wrist"),
        _hand21("interhand", _INTERHAND, "wrist"),
        _icvl16(),
        _nyu14(),
    )
}
_ALIASES = {"onehand10k": "coco21", "mediapipe": "coco21", "icvl": "icvl16", "nyu": "nyu14"}


def layout(name: str | Layout) -> Layout:
    """The layout of a name.

    Args:
        name: A key of :data:`LAYOUTS` or an alias: ``onehand10k`` and ``mediapipe`` are ``coco21``, ``icvl`` is
            ``icvl16``, ``nyu`` is ``nyu14``. A :class:`Layout` is returned as it is.

    Returns:
        The layout.

    Raises:
        UserError: The name is unknown.

    Example:
        >>> layout("hand21").joints[9:11]
        ('middle_mcp', 'middle_pip')
        >>> layout("rdh")
        Traceback (most recent call last):
        cvhpe.errors.UserError: unknown joint layout 'rdh'; did you mean 'rhd'?
    """
    if isinstance(name, Layout):
        return name
    if (key := _ALIASES.get(name, name)) not in LAYOUTS:
        raise UserError(f"unknown joint layout {name!r}; {nearest(name, [*LAYOUTS, *_ALIASES])}")
    return LAYOUTS[key]


def permutation(src: str | Layout, dst: str | Layout) -> tuple[int, ...]:
    """Indices that reorder one layout's joints into another's: ``joints_dst = joints_src[p]``.

    Args:
        src: Layout of the joints.
        dst: Layout wanted.

    Returns:
        One index of ``src`` for each joint of ``dst``.

    Raises:
        UserError: The layouts label different joints.

    Example:
        >>> permutation("stb", "hand21")[:5]
        (0, 17, 18, 19, 20)
    """
    a, b = layout(src), layout(dst)
    if sorted(a.joints) != sorted(b.joints):
        raise UserError(
            f"layout {a.name!r} ({len(a)} joints) cannot become {b.name!r} ({len(b)} joints): "
            "they label different joints"
        )
    return tuple(a.joints.index(name) for name in b.joints)


def convert(
    joints: Array, src: str | Layout, dst: str | Layout, *, root: Literal["strict", "keep", "move"] = "strict"
) -> Array:
    """Reorder joints of one layout into another.

    Args:
        joints: ``[..., J, k]``; any ``k``, so visibilities ``[..., J, 1]`` too.
        src: Layout of ``joints``.
        dst: Layout wanted.
        root: What to do if one layout's root is a wrist and the other's a palm. ``strict`` refuses; ``keep`` reorders
            only; ``move`` replaces a wrist by its midpoint with the middle MCP, or inverts that.

    Returns:
        ``[..., J, k]`` in the order of ``dst``.

    Raises:
        UserError: The layouts label different joints, the shape does not fit ``src``, or the roots differ and
            ``root`` is ``strict``.

    Example:
        >>> x = np.arange(21.0)[:, None]
        >>> convert(x, "rhd", "hand21")[:5, 0]
        array([0., 4., 3., 2., 1.])
        >>> convert(x, "rhd", "stb")
        Traceback (most recent call last):
        cvhpe.errors.UserError: the root of layout 'rhd' is a wrist, that of 'stb' a palm: use root='move' or 'keep'
    """
    a, b = layout(src), layout(dst)
    order = list(permutation(a, b))
    joints = np.asarray(joints)
    if joints.ndim < 2 or joints.shape[-2] != len(a):
        raise UserError(f"joints of shape {joints.shape}: layout {a.name!r} needs (..., {len(a)}, k)")
    out = joints[..., order, :]
    if a.root_kind == b.root_kind or "any" in (a.root_kind, b.root_kind) or root == "keep":
        return out
    if root == "strict":
        raise UserError(
            f"the root of layout {a.name!r} is a {a.root_kind}, that of {b.name!r} a {b.root_kind}: "
            "use root='move' or 'keep'"
        )
    knuckle = out[..., b.index("middle_mcp"), :]
    if a.root_kind == "wrist":
        out[..., b.root, :] = 0.5 * (out[..., b.root, :] + knuckle)
    else:
        out[..., b.root, :] = 2.0 * out[..., b.root, :] - knuckle
    return out
