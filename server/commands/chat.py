"""`chat`: talk with the agent in the terminal, through a running server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.process import run
from server.commands.runs import UrlOption

if TYPE_CHECKING:
    from server.commands.client import ServerClient

LEAVE = ("exit", "quit", "bye")


def chat(
    user: Annotated[str, typer.Option(help="Who talks.")] = "cli",
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


async def _talk(user: str, run_id: str | None, url: str | None) -> None:
    import asyncio

    from domain.errors import InvalidInput, LeaseHeld
    from server.commands.client import ServerClient

    asked = sys.stdin.isatty()
    if asked:
        typer.secho("Tell me what to run, and for how much at most. `exit` leaves.", dim=True)
    async with ServerClient(url) as server:
        while True:
            if asked:
                typer.echo("> ", nl=False)
            line = await asyncio.to_thread(sys.stdin.readline)
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


async def _say(server: ServerClient, user: str, message: str, run_id: str | None) -> str | None:
    """Send a message, print the answer as it comes; the run that is talked about now."""
    async for kind, text, data in server.chat(user, message, run_id):
        if kind == "run":
            run_id = str(data.get("runId") or run_id)
        else:
            typer.secho(text, err=kind == "error", dim=kind == "action")
    return run_id
