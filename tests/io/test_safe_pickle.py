"""The restricted unpickler: it loads what data sets hold, and refuses whatever would run code or take all memory."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cvhpe.errors import DataError
from cvhpe.io.safe_pickle import load_pickle


def _anno() -> dict:
    r = np.random.default_rng(0)
    return {
        i: {"xyz": r.normal(size=(42, 3)), "uv_vis": r.normal(size=(42, 3)), "K": np.eye(3, dtype=np.float32)}
        for i in range(4)
    }


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol_and_of_numpy_1_and_2(tmp_path: Path, protocol: int) -> None:
    want = _anno()
    data = pickle.dumps(want, protocol)
    current, other = (b"numpy._core", b"numpy.core") if b"numpy._core" in data else (b"numpy.core", b"numpy._core")
    spellings = [data]
    if protocol < 4:  # later protocols carry a length, so the text cannot simply be exchanged
        spellings.append(data.replace(current, other))
    for spelling in spellings:
        path = tmp_path / "anno.pickle"
        path.write_bytes(spelling)
        loaded = load_pickle(path)
        assert loaded.keys() == want.keys()
        for i in want:
            for key, array in want[i].items():
                assert type(loaded[i][key]) is np.ndarray
                assert loaded[i][key].dtype == array.dtype
                np.testing.assert_array_equal(loaded[i][key], array)


def test_scalars_orders_and_containers(tmp_path: Path) -> None:
    shared = np.arange(6).reshape(2, 3)
    want = {
        "f": np.asfortranarray(shared),
        "big": shared.astype(">i2"),
        "bool": np.array([True, False]),
        "u": np.array(["ab", "c"]),
        "empty": np.zeros((0, 3)),
        "scalar": np.float32(2.5),
        7: (1, [2.0, None], {"x"}),
        "b": b"raw",
        "same": [shared, shared],
        "dtype": np.dtype("<f4"),
    }
    for protocol in range(6):
        path = tmp_path / "a.pickle"
        # protocols below 4 name builtins.set, which is not needed by any data set
        path.write_bytes(pickle.dumps(want if protocol >= 4 else {**want, 7: 1}, protocol))
        loaded = load_pickle(path)
        for key in ("f", "big", "bool", "u", "empty"):
            np.testing.assert_array_equal(loaded[key], want[key])
            assert loaded[key].dtype == want[key].dtype
        assert loaded["scalar"] == np.float32(2.5)
        assert isinstance(loaded["scalar"], np.float32)
        assert loaded["b"] == b"raw"
        assert loaded["dtype"] == np.dtype("<f4")
        assert loaded["same"][0] is loaded["same"][1]
    assert loaded[7] == (1, [2.0, None], {"x"})


def test_python_2_strings_are_array_data_and_keys(tmp_path: Path) -> None:
    """Protocol 2 as Python 2 wrote it: str keys and str array data are SHORT_BINSTRING opcodes."""
    values = np.array([1.5, -2.0, 255.0])
    body = io.BytesIO()
    body.write(
        b"\x80\x02}U\x03xyzcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85"
    )
    body.write(b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
    body.write(b"\x89U" + bytes([values.nbytes]) + values.tobytes() + b"tbs.")
    path = tmp_path / "two.pickle"
    path.write_bytes(body.getvalue())
    np.testing.assert_array_equal(load_pickle(path)["xyz"], values)


class _Runs:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_code_is_named_and_never_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "anno_training.pickle"
    path.write_bytes(pickle.dumps({0: _Runs(os.system, f"touch {marker}")}, protocol))
    with pytest.raises(DataError, match=r"anno_training\.pickle.*(posix|nt)\.system") as error:
        load_pickle(path)
    assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "call", [(eval, "1"), (getattr, "a", "upper"), (np.load, "x"), (bytearray, 10), (pickle.loads, b""), (list, (1,))]
)
def test_other_callables_are_refused(tmp_path: Path, call: tuple) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(_Runs(*call)))
    with pytest.raises(DataError, match=rf"wants \w+\.{call[0].__name__}"):
        load_pickle(path)


def test_a_module_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "trap_of_the_test.py").write_text("raise SystemExit('imported')")
    path = tmp_path / "a.pickle"
    path.write_bytes(b"ctrap_of_the_test\nThing\n.")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(DataError, match=r"trap_of_the_test\.Thing"):
            load_pickle(path)
    finally:
        sys.path.remove(str(tmp_path))


def test_object_and_structured_dtypes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    for array in (np.array([{}, None], dtype=object), np.zeros(2, [("a", "f4"), ("b", "i2")]), np.zeros(2, "V4")):
        path.write_bytes(pickle.dumps(array))
        with pytest.raises(DataError, match="dtype"):
            load_pickle(path)


def test_constructors_cannot_be_changed_or_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(b"cnumpy\ndtype\n}b.")
    with pytest.raises(DataError, match="change a constructor"):
        load_pickle(path)
    path.write_bytes(b"cnumpy\ndtype\n.")
    with pytest.raises(DataError, match="class by itself"):
        load_pickle(path)
    path.write_bytes(b"}cnumpy\nndarray\nNs.")
    with pytest.raises(DataError, match="for a key"):
        load_pickle(path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_one_line(tmp_path: Path, part: float) -> None:
    content = pickle.dumps(_anno(), 2)
    path = tmp_path / "anno.pickle"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(DataError, match=r"anno\.pickle: not a complete pickle") as error:
        load_pickle(path)
    assert "\n" not in str(error.value)


def test_noise_never_gets_further_than_a_data_error(tmp_path: Path) -> None:
    content = pickle.dumps({0: np.arange(5.0), 1: [np.float64(1)]}, 2)
    r = np.random.default_rng(1)
    path = tmp_path / "anno.pickle"
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        for at in r.integers(0, len(content), 3):
            damaged[at] = r.integers(0, 256)
        path.write_bytes(damaged)
        try:
            load_pickle(path)
        except DataError:
            refused += 1
    assert refused > 200


def test_nesting_and_size_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    path.write_bytes(b"]" * 300 + b"a" * 299 + b".")
    with pytest.raises(DataError, match="nests too deeply"):
        load_pickle(path)
    path.write_bytes(pickle.dumps(list(range(100))))
    with pytest.raises(DataError, match="at most"):
        load_pickle(path, max_bytes=100)
    with pytest.raises(DataError, match="cannot be read"):
        load_pickle(tmp_path / "absent.pickle")


def test_shared_parts_are_visited_once(tmp_path: Path) -> None:
    """Forty lists that each hold the former twice: 2^40 paths, forty objects."""
    value: list = [np.ones(1)]
    for _ in range(40):
        value = [value, value]
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(value))
    loaded = load_pickle(path)
    assert loaded[0] is loaded[1]


_BOMBS = {
    "memo": b"\x80\x02]r" + struct.pack("<I", 2**31) + b".",
    "text memo": b"]p2000000000\n.",
    "long string": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "shape": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I1000000000\nI1000\nt"
    b"cnumpy\ndtype\n(S'f8'\ntRI00\nS''\ntb.",
    "copies": b"c_codecs\nencode\np0\n0(V" + b"a" * 100_000 + b"\ntp1\n0(" + b"g0\ng1\nR" * 20_000 + b"l.",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
@pytest.mark.parametrize("name", _BOMBS)
def test_memory_is_bounded(tmp_path: Path, name: str) -> None:
    """In a process that may hold 1 GB beyond what it starts with, every bomb ends as a DataError."""
    path = tmp_path / "bomb.pickle"
    path.write_bytes(_BOMBS[name])
    code = (
        "import resource, sys\n"
        "from cvhpe.io.safe_pickle import load_pickle\nfrom cvhpe.errors import DataError\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + (1 << 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n    load_pickle(sys.argv[1])\n"
        "except DataError as error:\n"
        "    print(error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    before = "import resource, cvhpe.io.safe_pickle; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    started = int(subprocess.run([sys.executable, "-c", before], capture_output=True, text=True, check=True).stdout)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "bomb.pickle" in done.stdout
    assert int(done.stdout.split()[-1]) - started < 100_000  # kB


@pytest.mark.parametrize("protocol", range(6))
def test_a_memo_index_is_found_behind_every_opcode(tmp_path: Path, protocol: int) -> None:
    """The scanner must step exactly as the unpickler does, or a memo index could hide in a string."""
    index = struct.pack("<I", 2**31)
    value = {"a": [b"r" + index, b"x" * 300, "y" * 300, 2**70, -1, 1.5, np.arange(3)], 3: (None, True)}
    data = pickle.dumps(value, protocol)
    path = tmp_path / "a.pickle"
    path.write_bytes(data)
    assert load_pickle(path)["a"][0] == b"r" + index
    path.write_bytes(data[:-1] + b"r" + index + b".")
    with pytest.raises(DataError, match="a memo larger than the file"):
        load_pickle(path)
