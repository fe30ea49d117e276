"""Load untrusted pickles of numpy arrays and plain containers without running code.

Annotation files such as RHD's are pickles, and a pickle is a program. Here it may call six constructors, all defined
in this file; any other name stops the load before anything is called. Memory is bounded by a small multiple of the
file's size: arrays are views of the bytes of the file, copies have a budget, and memo indices, for which the unpickler
allocates a table, are checked against the number of bytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cvhpe.errors import DataError

MAX_BYTES = 2 << 30
_MAX_DEPTH = 50
_KINDS = "?biufcSU"


class _Refused(Exception):
    """The pickle asks for something that is not allowed."""


class _Maker:
    """A constructor the pickle may call. Slots only, so that BUILD cannot change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: object) -> None:
        raise _Refused("to change a constructor")


class _Dtype:
    """A numpy dtype under construction: first its name, then the byte order in its state."""

    __slots__ = ("dtype",)

    def __init__(self, name: object, *_flags: object) -> None:
        name = _text(name)
        dtype = np.dtype(name)
        if dtype.kind not in _KINDS or dtype.names or dtype.subdtype:
            raise _Refused(f"an array of dtype {name[:40]!r}")
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        order = _text(state[1])
        # a field table, a shape or an object flag would let the state lie about the memory behind it
        if any(part is not None for part in state[2:5]) or order not in "<>|=":
            raise _Refused("a structured dtype")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class _Array:
    """A numpy array under construction: first empty, then shape, dtype and bytes in its state."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _array(data: Any, dtype: Any, shape: Any, order: Any = "C", *_rest: object) -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise _Refused("an array without a dtype")
    flat = np.frombuffer(data, dtype.dtype) if len(data) else np.zeros(0, dtype.dtype)
    return flat.reshape(shape, order=_text(order))  # type: ignore[call-overload]


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (1,))[0]


def _reconstruct(*_args: object) -> _Array:
    return _Array()


def _nothing_of(make: type) -> Callable[..., Any]:
    """A constructor that takes no argument, so that it cannot be asked to copy anything."""
    return lambda: make()


_MULTIARRAY: dict[str, Callable[..., Any]] = {"_reconstruct": _reconstruct, "scalar": _scalar}
_ALLOWED: dict[str, dict[str, Callable[..., Any]]] = {
    "numpy": {"dtype": _Dtype, "ndarray": _reconstruct},
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "numpy.core.numeric": {"_frombuffer": _array},
    "numpy._core.numeric": {"_frombuffer": _array},
    "collections": {"OrderedDict": _nothing_of(dict)},
    "builtins": {"bytes": _nothing_of(bytes)},  # protocols 0 to 2 write b"" so
    "__builtin__": {"bytes": _nothing_of(bytes)},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        # "bytes": strings of Python 2 may be array data; keys become text at the end
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left = 4 * len(data) + 4096

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        """Protocols 0 to 2 of Python 3 write bytes so. The budget is for a memoised text that is encoded many times."""
        self._left -= len(text)
        if self._left < 0 or encoding not in ("latin1", "latin-1"):
            raise _Refused("more bytes than the file has" if self._left < 0 else f"the encoding {encoding!r:.40}")
        return text.encode(encoding)

    def find_class(self, module: str, name: str) -> _Maker:
        if (module, name) == ("_codecs", "encode"):
            return _Maker(self._encode)
        make = _ALLOWED.get(module, {}).get(name)
        if make is None:
            raise _Refused(f"{module}.{name}"[:120])
        return _Maker(make)


def load_pickle(path: Path | str, max_bytes: int = MAX_BYTES) -> Any:
    """Load a pickle of numpy arrays, numpy scalars and plain containers.

    Pickles of numpy 1 and 2, of Python 2 and 3 and of protocols 0 to 5 are read. Arrays may be read-only. Strings that
    Python 2 wrote become ``str`` if they are keys of a dict, and ``bytes`` elsewhere.

    Args:
        path: the file.
        max_bytes: the largest file that is read.

    Returns:
        Its content.

    Raises:
        DataError: If the file is missing, too large or damaged, or wants any other class, which is never imported.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path}: a pickle of {size / 1e9:.1f} GB; at most {max_bytes / 1e9:.1f} GB are read")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path of the data set") from None
    try:
        _check_opcodes(data)
        return _plain(_Unpickler(data).load(), {}, 0)
    except _Refused as refused:
        raise DataError(
            f"{path}: the pickle wants {refused}; only numpy arrays and plain containers are read, "
            "so get the file anew from the data set's own page"
        ) from None
    except RecursionError:
        raise DataError(f"{path}: the pickle nests too deeply; is it the data set's own file?") from None
    except MemoryError:
        raise DataError(
            f"{path}: the pickle asks for more memory than there is; is it the data set's own file?"
        ) from None
    # what the unpickler raises for a damaged pickle
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
    ) as error:
        reason = " ".join(str(error).split())[:120] or "it ends too early"
        raise DataError(f"{path}: not a complete pickle ({reason}); get the file anew") from None


def _check_opcodes(data: bytes) -> None:
    """Refuse memo indices beyond the file's own length: the unpickler would allocate a table for them."""
    at, end = 0, len(data)
    while at < end:
        name, length, counted = _OPCODES[data[at]]
        at += 1
        if name == "STOP":
            return
        if name == "LONG_BINPUT" and int.from_bytes(data[at : at + 4], "little") > end:
            raise _Refused("a memo larger than the file")
        if counted:
            at += counted + int.from_bytes(data[at : at + counted], "little")
        elif length >= 0:
            at += length
        else:
            for _ in range(-length):  # text arguments, a line each
                stop = data.find(b"\n", at)
                if stop < 0:
                    return
                if name == "PUT" and (len(data[at:stop].strip()) > 12 or int(data[at:stop]) > end):
                    raise _Refused("a memo larger than the file")
                at = stop + 1


def _opcode_table() -> list[tuple[str, int, int]]:
    """Opcode byte -> name, bytes of its argument (-n: n lines of text), width of a length prefix."""
    prefix = {f"{kind}{n}": n for kind in ("string", "bytes", "bytearray", "long", "unicodestring") for n in (1, 4, 8)}
    table = [("unknown", 0, 0)] * 256
    for op in pickletools.opcodes:
        length, counted = 0, 0
        if op.arg is not None:
            counted = prefix.get(op.arg.name, 0)
            length = max(op.arg.n, 0)
            if op.arg.n == pickletools.UP_TO_NEWLINE:
                length = -2 if op.arg.name == "stringnl_noescape_pair" else -1
        table[ord(op.code)] = (op.name, length, counted)
    return table


_OPCODES = _opcode_table()


def _plain(value: Any, memo: dict[int, Any], depth: int) -> Any:
    """Replace objects under construction by what they became; ``memo`` keeps shared parts shared."""
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Dtype):
        return value.dtype
    if isinstance(value, _Maker) or (isinstance(value, set | frozenset) and not all(map(_hashable, value))):
        raise _Refused("a class by itself")
    if not isinstance(value, dict | list | tuple) or not value:
        return value
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, tuple):
        plain: Any = tuple(_plain(item, memo, depth + 1) for item in value)
    else:
        plain = value
        memo[id(value)] = (value, plain)
        if isinstance(value, dict):
            items = list(value.items())
            value.clear()
            value.update((_key(key), _plain(item, memo, depth + 1)) for key, item in items)
        else:
            value[:] = [_plain(item, memo, depth + 1) for item in value]
    memo[id(value)] = (value, plain)
    return plain


def _hashable(value: object) -> bool:
    """Whether a value is plain and may be in a set or be a key."""
    if isinstance(value, tuple | frozenset):
        return all(map(_hashable, value))
    return value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic)


def _key(key: Any) -> Any:
    if not _hashable(key):
        raise _Refused(f"a {type(key).__name__.strip('_')} for a key")
    return key.decode("latin1") if isinstance(key, bytes) else key
