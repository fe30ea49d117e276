"""Every example in a docstring is a test."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cvhpe

# Importing the first runs the command line, the others are compiled.
_LEFT_OUT = ("cvhpe.__main__", "cvhpe._C", "cvhpe._C_cuda")
MODULES = sorted({m.name for m in pkgutil.walk_packages(cvhpe.__path__, "cvhpe.")} - set(_LEFT_OUT))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_there_are_examples() -> None:
    assert {"cvhpe.geometry.skeleton", "cvhpe.geometry.camera", "cvhpe.evaluation.metrics"} <= set(MODULES)
