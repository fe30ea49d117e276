"""Every command explains itself, with an example that it takes."""

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
from cvhpe.cli.help import flowing

ROOT = typer.main.get_command(app)


def commands(command: Any = ROOT, path: tuple[str, ...] = ("cvhpe",)) -> Iterator[tuple[str, Any]]:
    """Every command and group with the words that call it."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ALL = dict(commands())


def taken(words: list[str]) -> None:
    """Parse a command line as the program would, and run nothing."""
    command = ROOT
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    if "--help" not in words:
        command.make_context(words[0] if words else "", words)


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_an_example_that_it_takes(name):
    text = ALL[name].help.replace("\\[", "[")
    examples = re.findall(r"^Example: (cvhpe .+)$", text, re.M)
    assert examples, f"{name} --help shows no example"
    for example in examples:
        assert example.startswith(name)
        taken(shlex.split(example)[1:])


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_explained(name):
    silent = [p.name for p in ALL[name].params if not getattr(p, "help", None) and p.name != "help"]
    assert silent == []


def test_an_example_with_an_option_that_is_not_there_is_found():
    with pytest.raises(Exception, match="--form"):
        taken(["evaluate", "runs/both", "--form", "rgb"])


def test_brackets_and_long_paragraphs_survive():
    said = cvhpe("predict", "--help").stdout
    assert "cvhpe[detect]" in said
    assert inspect.cleandoc(flowing("One\n    line.\n\n    Two\n    lines.")) == "One line.\n\nTwo lines."
