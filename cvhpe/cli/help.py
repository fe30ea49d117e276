"""FusionParams ``--help`` reads: paragraphs that fill the terminal, and brackets that stay."""

from __future__ import annotations

import inspect

import typer


def readable(app: typer.Typer) -> typer.Typer:
    """Give the commands of an app and of its groups their docstrings as help, made by :func:`flowing`."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.help = flowing(command.callback.__doc__ or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            readable(group.typer_instance)
    return app


def flowing(text: str) -> str:
    r"""A docstring without the line ends of its paragraphs, which typer would keep, and with brackets for rich.

    >>> flowing("One [x]\n    two.\n\n    Three.")
    'One \\[x] two.\n\nThree.'
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(p.split("\n")) for p in paragraphs).replace("[", r"\[")
