"""Damaged files of every reader: good samples or one line, never a crash, a hang or gigabytes.

Some 500 inputs; ``python tests/helpers/fuzz.py --inputs 20000`` is the long run.
"""

from __future__ import annotations

import random

import pytest
from helpers import fuzz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cvhpe.data.files import decode_image
from cvhpe.errors import DataError

pytestmark = pytest.mark.slow

LARGE = ("stb", "stb-sk", "nyu")
"""Miniatures whose images have the size that their readers insist on; each costs ten times the others."""


@pytest.fixture(scope="module", params=fuzz.READERS)
def subject(request, tmp_path_factory):
    return fuzz.Subject(request.param, tmp_path_factory.mktemp("fuzz") / request.param)


def test_damage_ends_in_samples_or_in_one_line(subject):
    @settings(
        max_examples=15 if subject.name in LARGE else 57,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def damaged(chance):
        subject.read(*subject.mutated(chance))

    damaged()


def test_damage_that_must_be_noticed_is(subject):
    """Some file of a miniature, emptied, must be refused."""
    assert any(subject.read(file, b"") is not None for file in subject.files)


def test_an_image_chunk_that_claims_gigabytes(tmp_path, monkeypatch):
    """Pillow takes a chunk's word for its length; this one was found by fuzzing."""
    monkeypatch.setattr(fuzz, "MAX_BYTES", 256 << 20)
    path = tmp_path / "a.png"
    Image.new("L", (64, 64), 7).save(path)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"IDAT")
    raw[at - 4 : at] = b"\x7f\xff\xff\xff"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.png"), fuzz.bounded():
        decode_image(path, "L")


@pytest.mark.parametrize(("function", "kind"), [(lambda: bytearray(3 << 30), MemoryError), (lambda: spin(), fuzz.Hang)])
def test_what_takes_too_much_is_noticed(function, kind, monkeypatch):
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.2)
    with pytest.raises(kind), fuzz.bounded():
        function()


def spin():
    while True:
        random.random()
