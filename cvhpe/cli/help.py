"""The format of ``--help``: paragraphs fill the terminal, brackets are kept."""

from __future__ import annotations

import inspect

import typer


def use_docstrings(app: typer.Typer) -> typer.Typer:
    """Set the help of all commands of an app to their docstrings, reflowed by :func:`reflow`."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.help = reflow(command.callback.__doc__ or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            use_docstrings(group.typer_instance)
    return app


def reflow(text: str) -> str:
    r"""Join the lines of each paragraph of a docstring, and escape brackets for rich.

    >>> reflow("One [x]\n    two.\n\n    Three.")
    'One \\[x] two.\n\nThree.'
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(p.split("\n")) for p in paragraphs).replace("[", r"\[")
