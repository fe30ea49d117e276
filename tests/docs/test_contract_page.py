"""The tables of ``docs/contract.md`` list the fields of the classes that they describe."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.example_datasets import VALID

from cvhpe import DatasetSpec, Modality, ModelShape, Sample, View
from cvhpe.data.loader import Batches
from cvhpe.data.packing.prepare import prepare
from cvhpe.plugin.registry import API_VERSION, GROUP, HOOKS
from cvhpe.plugin.sample import Dataset
from cvhpe.testing import fake_fields

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "contract.md").read_text(encoding="utf-8")
OTHER = "any other"
OPTIONAL = {"read", "note"}  # optional members of a data set


def section(heading: str) -> str:
    return re.split(r"^## ", PAGE.split(f"## {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def table(heading: str) -> dict[str, tuple[str, ...]]:
    """First cell, without its backquotes -> the other cells."""
    rows = [line.strip("|").split(" | ") for line in section(heading).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows[2:]]
    assert cells
    assert len({row[0] for row in cells}) == len(cells), "a name is listed twice"
    return {row[0].strip("`"): tuple(row[1:]) for row in cells}


@pytest.mark.parametrize("described", [Modality, View, ModelShape, DatasetSpec, Sample], ids=lambda c: c.__name__)
def test_exactly_the_fields_are_described(described: Any) -> None:
    assert list(table(f"`{described.__name__}`")) == [f.name for f in dataclasses.fields(described)]


def test_the_sizes_of_a_run_have_their_defaults() -> None:
    stated = {name: cells[0].strip('`"') for name, cells in table("`ModelShape`").items()}
    assert stated == {f.name: str(f.default) for f in dataclasses.fields(ModelShape)}


def test_every_member_of_a_data_set_is_described() -> None:
    members = set(Dataset.__annotations__) | {n for n in ("__len__", "__getitem__") if n in vars(Dataset)}
    assert set(table("`Dataset`")) == members | OPTIONAL


def test_stored_fields_are_those_of_kit_and_loader(tmp_path: Path) -> None:
    described = {name: cells[0] for name, cells in table("Stored fields").items() if name != OTHER}
    fakes = fake_fields(2, torch.Generator().manual_seed(0))
    assert set(described) == set(fakes)
    pack = prepare(VALID, tmp_path, "train", image_size=64, fields=("rgb", "joints2d", "joints3d"), cache=tmp_path)
    batch = next(Batches([pack], ("rgb", "joints2d", "joints3d"), 2).epoch(0))
    for name, text in described.items():
        dtype, axes = re.fullmatch(r"(\w+) `\[(.+)\]`", text).groups()
        for source in (fakes, batch):
            if name in source:
                assert (str(source[name].dtype), source[name].ndim) == (f"torch.{dtype}", axes.count(",") + 1), name
    assert set(described) - set(batch) == {"depth", "mask"}, "the data set has neither, but all other fields"


def test_hooks_group_and_version_are_named() -> None:
    assert PAGE.startswith(f"# The contract of a plugin, version {API_VERSION}\n")
    assert f"`{GROUP}`" in section("Discovery")
    assert set(re.findall(r"`(cvhpe_\w+)\(\)", section("Discovery"))) == set(HOOKS)


def test_the_public_modules_are_the_pinned_ones() -> None:
    stated = set(re.findall(r"`(cvhpe[.\w]*)`", section("What is public")))
    pinned = (TESTS / "api_surface.txt").read_text(encoding="utf-8").splitlines()
    modules = {
        re.match(r"[a-z_.]+(?=\.)", line).group() for line in pinned if not line.startswith("cvhpe.plugin.registry")
    }
    # A class stands in the list with its members: what is no module begins with a capital and is cut off above.
    assert {m for m in stated if m != "cvhpe.plugin.registry.registry"} == modules
