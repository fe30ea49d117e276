"""Tests of plots keep their packs and fonts in a folder of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_places(_places):
    return _places
