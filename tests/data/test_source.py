"""How data sets, their paths and options are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvhpe.data.source import parse_options, parse_source
from cvhpe.errors import DataError, UserError


def test_a_source_is_a_name_and_a_path() -> None:
    spec, path = parse_source("coco:/data/c:d?side=left")
    assert (spec.name, path) == ("coco", Path("/data/c:d?side=left"))
    assert parse_source("synthetic")[1] is None
    assert parse_source("stb:~/STB")[1] == Path.home() / "STB"
    with pytest.raises(UserError, match="needs its path: stb:PATH"):
        parse_source("stb")


def test_options(tmp_path) -> None:
    assert parse_options(tmp_path / "a", "msra", {"subject": "0"}) == (tmp_path / "a", {"subject": "0"})
    assert parse_options(tmp_path / "a?subject=4", "msra", {"subject": "0"}) == (tmp_path / "a", {"subject": "4"})
    odd = tmp_path / "really?subject"
    odd.mkdir()
    assert parse_options(odd, "msra", {"subject": "0"}) == (odd, {"subject": "0"})
    with pytest.raises(DataError, match=r"no option 'subjct=4'.*did you mean 'subject'"):
        parse_options(tmp_path / "a?subjct=4", "msra", {"subject": "0"})
    with pytest.raises(DataError, match="it has none"):
        parse_options(tmp_path / "a?x=4", "stb", {})
