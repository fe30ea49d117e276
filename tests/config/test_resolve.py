"""Sources of settings and how they are merged."""

import pytest

from cvhpe.config.resolve import assign, merge, parse_value, read_toml
from cvhpe.errors import UserError


def test_set_reaches_into_tables():
    tree = {"lr": 1.0}
    for setting in ("augmentation.flip=0", "lr=1e-3", "recipe=best", "modalities=['rgb']"):
        assign(tree, setting)
    assert tree == {"lr": 1e-3, "augmentation": {"flip": 0}, "recipe": "best", "modalities": ["rgb"]}
    assert parse_value("true") is True
    assert parse_value("a b") == "a b"


def test_merge_lays_tables_over_tables():
    assert merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}, "b": 1}


def test_settings_without_value_and_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="name=value"):
        assign({}, "lr")
    with pytest.raises(UserError, match="no settings below it"):
        assign({"lr": 1}, "lr.x=1")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = [")
    with pytest.raises(UserError, match=r"bad\.toml"):
        read_toml(bad)
    with pytest.raises(UserError, match=r"nothing\.toml"):
        read_toml(tmp_path / "nothing.toml")
