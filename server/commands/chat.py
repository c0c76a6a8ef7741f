"""`chat`: talk with the agent in the terminal, through a running server."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Final

import typer

from server.commands.runs import UrlOption, UserOption
from server.terminal.output import colour
from server.terminal.process import run

if TYPE_CHECKING:
    from server.terminal.client import ServerClient

_MARK: Final = re.compile(r" *(?:[-*•] )?")
LEAVE = ("exit", "quit", "bye")


def chat(
    user: UserOption = None,
    run_id: Annotated[
        str | None, typer.Option("--run", help="The run to talk about.", metavar="RUN")
    ] = None,
    url: UrlOption = None,
) -> None:
    """Talk with the agent: tell it a goal, ask how it goes, stop it. `exit` leaves.

    What is typed, or piped in, is sent line by line. A run that is started is talked about from
    then on.

    [dim]$[/] gpu-renter chat
    """
    run(_talk(user, run_id, url))


async def _talk(user: str | None, run_id: str | None, url: str | None) -> None:
    from domain.errors import InvalidInput, LeaseHeld
    from server.terminal.client import ServerClient

    asked = sys.stdin.isatty()
    if asked:
        typer.secho("Tell me what to run, and for how much at most. `exit` leaves.", dim=True)
    lines = _Lines()
    async with ServerClient(url) as server:
        if run_id:
            run_id = await server.whole_id(run_id)
        if run_id and user is None:
            user = str((await server.status(run_id))["run"]["userId"])
        while True:
            if asked:
                typer.echo("> ", nl=False)
            line = await lines.next()
            message = line.strip()
            if not line or message.lower() in LEAVE:
                return
            if not message:
                continue
            try:
                run_id = await _say(server, user, message, run_id)
            except (InvalidInput, LeaseHeld) as problem:
                if not asked:
                    raise
                typer.echo(str(problem), err=True)


class _Lines:
    """Lines of the standard input, each waited for in a way that Ctrl-C can end: a thread that
    reads cannot be interrupted, and the program would not leave before the next Enter.
    """

    def __init__(self) -> None:
        self._read = b""

    async def next(self) -> str:
        """A line with its end; empty when there are no more."""
        while b"\n" not in self._read:
            try:
                await _readable(sys.stdin.fileno())
            except OSError:  # a file, which never keeps anyone waiting; or no real input at all
                return sys.stdin.readline()
            part = os.read(sys.stdin.fileno(), 4096)
            if not part:
                break
            self._read += part
        line, end, self._read = self._read.partition(b"\n")
        return (line + end).decode(errors="replace")


async def _readable(fd: int) -> None:
    """Wait until reading gives something, or the end. Raises OSError where that cannot be told."""
    import asyncio

    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def say(words: str, *, err: bool = False, dim: bool = False) -> None:
    """Print what is said: on a terminal no word is cut at its edge, and a line of a list goes on
    under its words. A pipe gets the lines as they are.
    """
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        words = "\n".join(map(_wrapped, words.split("\n")))
    if dim:
        typer.secho(words, err=err, dim=True, color=colour())
    else:
        typer.echo(words, err=err)


def _wrapped(line: str) -> str:
    marked = _MARK.match(line)
    return textwrap.fill(
        line,
        max(20, shutil.get_terminal_size().columns),
        subsequent_indent=" " * len(marked[0]) if marked else "",
        break_long_words=False,  # an address or a command stays whole, to be copied
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )


async def _say(
    server: ServerClient, user: str | None, message: str, run_id: str | None
) -> str | None:
    """Send a message, print the answer as it comes; the run that is talked about now."""
    async for kind, text, data in server.chat(user, message, run_id):
        if kind == "run":
            run_id = str(data.get("runId") or run_id)
        else:
            say(text, err=kind == "error", dim=kind == "action")
    return run_id
