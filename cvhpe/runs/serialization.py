"""Weights and training states on disk: safetensors with a JSON card, written whole or not at all.

No pickle is ever read. A file's shapes are held against the model's before a tensor is loaded, and
the digest in its card against its bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cvhpe.errors import UserError
from cvhpe.io.atomic import atomic_file, write_error

FORMAT = 1
CARD = "cvhpe"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """BLAKE2b of the names and bytes of ``tensors``, in the order of their names."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        state.update(name.encode())
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        state.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return state.hexdigest()


def save(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write ``tensors`` and their ``card`` (anything JSON) to a safetensors file."""
    ready = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps({**card, "format": FORMAT, "digest": digest(ready)})
    with atomic_file(path) as temporary:
        try:
            save_file(ready, temporary, metadata={CARD: text})
        except SafetensorError as error:
            raise UserError(write_error(path, error)) from None


def read_card(path: Path) -> dict[str, Any]:
    """The card of a file that :func:`save` wrote, without its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: not a readable checkpoint: {error}") from None
    if CARD not in metadata:
        raise UserError(f"{path}: a safetensors file, but not one that cvhpe wrote")
    try:
        card = json.loads(metadata[CARD])
        version = card["format"]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: its card cannot be read") from None
    if version != FORMAT:
        raise UserError(f"{path}: checkpoint format {version}, this cvhpe reads {FORMAT}; update cvhpe")
    return card


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors of a file, out of its header: a look before memory is taken."""
    try:
        with safe_open(path, framework="pt") as file:
            return {n: tuple(file.get_slice(n).get_shape()) for n in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}") from None


def load(path: Path, expected: Mapping[str, Tensor] | None = None, prefix: str = "") -> dict[str, Tensor]:
    """The tensors under ``prefix``, their names without it, checked against the digest.

    expected: names and shapes that must be met exactly, checked before a tensor is read.
    """
    card, found = read_card(path), shapes(path)
    if expected is not None:
        mine = {n.removeprefix(prefix): s for n, s in found.items() if n.startswith(prefix)}
        check_shapes(path, mine, {n: tuple(t.shape) for n, t in expected.items()})
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: what is given are views of the mapped file, which would stay in memory, whole, for as long as a
            # resumed run holds its moments, and be read again from a disk that may have failed by then.
            tensors = {n: file.get_tensor(n).clone() for n in found}
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}") from None
    if digest(tensors) != card.get("digest"):
        raise UserError(f"{path}: damaged: its contents do not match their checksum")
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def check_shapes(path: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that are not the model's, naming the first that differs."""
    for name, shape in wanted.items():
        if name not in found:
            raise UserError(f"{path}: lacks {name}; it was trained with other settings or another plugin version")
        if found[name] != shape:
            raise UserError(f"{path}: {name} is {list(found[name])}, the model's is {list(shape)}")
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise UserError(f"{path}: holds {extra[0]}, which the model lacks; was it trained with another plugin version?")
