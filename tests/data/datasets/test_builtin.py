from __future__ import annotations

import subprocess
import sys

import pytest

from cvhpe.data.datasets.builtin import cvhpe_datasets
from cvhpe.errors import DataError
from cvhpe.geometry.skeleton import layout
from cvhpe.plugin.registry import registry

SPECS = cvhpe_datasets()


def test_every_data_set_of_the_command_line_is_there() -> None:
    names = {"synthetic", "rhd", "stb", "icvl", "nyu", "msra", "freihand", "coco", "joints"}
    assert names <= {s.name for s in SPECS}
    assert len({s.name for s in SPECS}) == len(SPECS)
    assert names <= set(registry().datasets)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_what_a_data_set_states_fits_together(spec) -> None:
    if spec.layout is not None:
        assert layout(spec.layout).root_kind == spec.root
    assert spec.splits[0] == "train"
    assert set(spec.published) <= set(spec.splits)
    assert spec.crop == ("cube" if spec.fields[0] == "depth" or spec.name == "nyu" else "joints")
    assert spec.about


@pytest.mark.parametrize("spec", [s for s in SPECS if s.needs_path], ids=lambda s: s.name)
def test_a_place_that_is_not_there_is_one_line(spec, tmp_path) -> None:
    for path in (None, tmp_path / "nowhere"):
        with pytest.raises(DataError) as error:
            spec.open(path, "train")
        assert "\n" not in str(error.value)
        assert path is None or str(path) in str(error.value)


def test_listing_imports_neither_torch_nor_a_reader() -> None:
    code = (
        "import sys; from cvhpe.data.datasets.builtin import cvhpe_datasets; cvhpe_datasets(); "
        "bad = {'torch', 'scipy', 'cvhpe.data.datasets.stb', 'cvhpe.data.datasets.nyu', 'cvhpe.data.datasets.coco'} "
        "& set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
