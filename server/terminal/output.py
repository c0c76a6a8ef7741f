"""What the commands say: results on stdout, problems and progress on stderr, exit statuses.

Colours and animation only on a terminal, and no colours with NO_COLOR.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any, Final

import typer

from domain import errors


class Exit(IntEnum):
    """The exit statuses, the same for every command."""

    OK = 0
    FAILED = 1
    """What was asked for did not come true: a run failed, a check or a claim does not hold."""
    USAGE = 2
    """An argument or a setting is not usable."""
    DOWN = 3
    """Something that is needed does not answer: the server, MongoDB, the chain, a vendor."""
    NOT_FOUND = 4
    CONFLICT = 5
    """Another tick works on the run, or it has ended."""
    INTERRUPTED = 130


EXIT_CODES: Final = (
    "Exit status: 0 done · 1 it failed, or a claim does not hold · 2 wrong usage or setting · "
    "3 a service does not answer · 4 not found · 5 another tick works on it · 130 interrupted"
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def exit_for(error: errors.RenterError) -> Exit:
    """The exit status that an error stands for."""
    match error:
        case errors.InvalidInput() | errors.ConfigError() | errors.NotAllUsed():
            return Exit.USAGE
        case errors.NotFound():
            return Exit.NOT_FOUND
        case errors.Conflict():
            return Exit.CONFLICT
        case errors.DependencyDown() | errors.VendorUnreachable() | errors.VendorBroken():
            return Exit.DOWN
        case _:
            return Exit.FAILED


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def tell(value: Any, sentence: str, as_json: bool) -> None:
    """Print the one or the other."""
    if as_json:
        print_json(value)
    else:
        typer.echo(sentence)


def print_problem(sentence: str) -> None:
    """One problem with its remedy, on stderr."""
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True, color=colour())
    typer.echo(sentence.strip(), err=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that `what` goes on, for what may take over a second. On stderr, so that
    it is in no pipe; it leaves nothing behind.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} …", spinner="dots"):
        yield


def colour() -> bool | None:
    """False with NO_COLOR; else None, which leaves it to whether the output is a terminal."""
    return False if os.environ.get("NO_COLOR") else None
