"""Docstrings as help texts: their paragraphs flow at the terminal's width, not at the source's."""

from __future__ import annotations

from inspect import cleandoc
from typing import Final

import typer

from server.terminal.output import EXIT_CODES

EXAMPLE: Final = "[dim]$[/] "
"""What an example begins with. It stays a line of its own, as its paragraph's others do."""


def complete_helps(group: typer.Typer) -> None:
    """Have each command's help flow, and say the exit statuses but where it has its own."""
    for registered in group.registered_commands:
        written = getattr(registered.callback, "__doc__", None) or ""
        registered.help = flowing(written)
        if "Exit status:" not in written:
            registered.epilog = EXIT_CODES
    if group.registered_callback is not None:
        group.registered_callback.help = flowing(group.registered_callback.callback.__doc__ or "")
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            complete_helps(inner.typer_instance)


def flowing(docstring: str) -> str:
    """The docstring with each paragraph in one line, but for examples."""
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(
        written if written.startswith(EXAMPLE) else " ".join(written.split())
        for written in paragraphs
    )
