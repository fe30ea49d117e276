"""Tensors and metadata on disk: safetensors files with a JSON header entry, written atomically; no pickle is read.

Shapes are compared with the model's before a tensor is loaded, and the digest in the metadata with the tensors' bytes.
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
KEY = "cvhpe"
"""Name of the header entry that holds the metadata."""

Shapes = Mapping[str, tuple[int, ...]]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """BLAKE2b of the names and bytes of ``tensors``, in the order of their names."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        state.update(name.encode())
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        state.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return state.hexdigest()


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata to a safetensors file.

    Args:
        path: the file; replaced only once the new one is complete.
        tensors: name -> tensor on any device.
        metadata: anything that JSON can hold.

    Raises:
        UserError: If the disk is full or the file cannot be written.
    """
    on_cpu = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps({**metadata, "format": FORMAT, "digest": digest(on_cpu)})
    with atomic_file(path) as temporary:
        try:
            save_file(on_cpu, temporary, metadata={KEY: text})
        except SafetensorError as error:
            raise UserError(write_error(path, error)) from None


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a file that :func:`save` wrote, without its tensors.

    Args:
        path: the file.

    Returns:
        The metadata.

    Raises:
        UserError: If the file is damaged, not ours, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: not a readable checkpoint: {error}") from None
    if KEY not in header:
        raise UserError(f"{path}: a safetensors file, but not one that cvhpe wrote")
    try:
        metadata = json.loads(header[KEY])
        version = metadata["format"]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: its metadata cannot be read") from None
    if version != FORMAT:
        raise UserError(f"{path}: checkpoint format {version}, this cvhpe reads {FORMAT}; update cvhpe")
    return metadata


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors, read from its header.

    Args:
        path: the file.

    Returns:
        Name -> shape.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {n: tuple(file.get_slice(n).get_shape()) for n in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file.

    Args:
        path: the file.

    Returns:
        Name -> tensor on the CPU.

    Raises:
        UserError: If the file is damaged: its tensors do not match the digest in its metadata.
    """
    metadata = read_metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: the tensors are views of the mapped file, which would stay in memory for as long as a resumed
            # run holds its moments, and be read again from a disk that may have failed by then.
            tensors = {n: file.get_tensor(n).clone() for n in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}") from None
    if digest(tensors) != metadata.get("digest"):
        raise UserError(f"{path}: damaged: its contents do not match their checksum")
    return tensors


def check_shapes(path: Path, shapes: Shapes, expected: Shapes) -> None:
    """Compare a file's tensors with a model's.

    Args:
        path: the file, for the message.
        shapes: name -> shape in the file.
        expected: name -> shape in the model.

    Raises:
        UserError: If they differ; it names the first tensor that does.
    """
    for name, shape in expected.items():
        if name not in shapes:
            raise UserError(f"{path}: lacks {name}; it was trained with other settings or another plugin version")
        if shapes[name] != shape:
            raise UserError(f"{path}: {name} is {list(shapes[name])}, the model's is {list(shape)}")
    extra = sorted(set(shapes) - set(expected))
    if extra:
        raise UserError(f"{path}: holds {extra[0]}, which the model lacks; was it trained with another plugin version?")


def with_prefix(prefix: str, items: Mapping[str, Any]) -> dict[str, Any]:
    """Select by name.

    Args:
        prefix: beginning of the names to select.
        items: name -> anything.

    Returns:
        Those whose names begin with ``prefix``, their names without it.

    Example:
        >>> with_prefix("model.", {"model.bias": 1, "ema.bias": 2})
        {'bias': 1}
    """
    return {name.removeprefix(prefix): value for name, value in items.items() if name.startswith(prefix)}
