"""The help of every command, and its examples."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from helpers.shell import cvhpe

from cvhpe.cli import app
from cvhpe.cli.help import reflow

ROOT = typer.main.get_command(app)


def commands(command: Any = ROOT, path: tuple[str, ...] = ("cvhpe",)) -> Iterator[tuple[str, Any]]:
    """Every command and group, by its full name."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ALL = dict(commands())


def parse(words: list[str]) -> None:
    """Parse a command line as the program would, and run nothing."""
    command = ROOT
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    if "--help" not in words:
        command.make_context(words[0] if words else "", words)


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_a_valid_example(name):
    text = ALL[name].help.replace("\\[", "[")
    examples = re.findall(r"^Example: (cvhpe .+)$", text, re.M)
    assert examples, f"{name} --help shows no example"
    for example in examples:
        assert example.startswith(name)
        parse(shlex.split(example)[1:])


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_explained(name):
    undocumented = [p.name for p in ALL[name].params if not getattr(p, "help", None) and p.name != "help"]
    assert undocumented == []


def test_an_example_with_an_unknown_option_is_detected():
    with pytest.raises(Exception, match="--form"):
        parse(["evaluate", "runs/both", "--form", "rgb"])


def test_brackets_and_long_paragraphs_survive():
    output = cvhpe("predict", "--help").stdout
    assert "cvhpe[detect]" in output
    assert inspect.cleandoc(reflow("One\n    line.\n\n    Two\n    lines.")) == "One line.\n\nTwo lines."
