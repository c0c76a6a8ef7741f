"""`gpu-renter doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from domain.errors import InvalidInput, RenterError
from server.commands.runs import UrlOption
from server.terminal.output import Exit, JsonOption, print_json, working
from server.terminal.process import run

if TYPE_CHECKING:
    from rich.console import Console

    from server.doctor.checks import Check

LABEL_CELLS = 20


def doctor(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Check each thing that the configured mode needs, and say what to do.

    Settings, disk, files with secrets, queue, webhooks, traces, MongoDB and its writes, chain and
    USDC contract, clock, wallet and balance, API keys, each vendor (by asking for a quote), the
    planner's model. Pays nothing. Exit status 1 when something is wrong; what is skipped is not.

    [dim]$[/] gpu-renter doctor
    [dim]$[/] gpu-renter doctor --json | jq '.checks[] | select(.state == "wrong")'
    """
    with working("Checking"):
        found = run(_examine(url, quiet=as_json))
    wrong = [check for check in found if check.state == "wrong"]
    if as_json:
        print_json({"healthy": not wrong, "checks": [asdict(check) for check in found]})
    elif wrong:
        typer.echo(f"{len(wrong)} of {len(found)} checks found something wrong")
    else:
        typer.echo("Nothing is wrong")
    if wrong:
        raise typer.Exit(Exit.FAILED)


async def _examine(url: str | None, *, quiet: bool) -> list[Check]:
    from rich.console import Console

    console = Console(highlight=False)
    found = []
    async for check in _checks(url):
        found.append(check)
        if not quiet:
            _print(console, check)
    return found


async def _checks(url: str | None) -> AsyncIterator[Check]:
    """What a running server finds. Where none runs, or it cannot look, what is found from here."""
    from server.doctor.checks import Check, examine
    from server.terminal.client import through_server

    try:
        told = await through_server(url, lambda server: server.order("/api/doctor"))
    except InvalidInput as refused:  # no key, or one without the right
        if url is not None:
            raise
        yield Check("server", "skipped", f"it was not asked: {refused.message}", refused.remedy)
        told = None
    except RenterError as error:
        if url is not None:
            raise
        yield Check("server", "wrong", error.message, error.remedy)
        told = None
    else:
        if told is not None:
            yield Check("server", "ok", "it answers, and says the rest")
    if told is None:
        async for check in examine():
            yield check
        return
    for one in told["checks"]:
        yield Check(one["name"], one["state"], one["finding"], one["remedy"])


def _print(console: Console, check: Check) -> None:
    """The finding beside its name, and under it what to do."""
    from rich.table import Table
    from rich.text import Text

    mark, style = {"ok": ("✓", "green"), "skipped": ("–", "yellow"), "wrong": ("✗", "bold red")}[
        check.state
    ]
    text = Text(check.finding, style if check.state == "wrong" else "")
    if check.remedy:
        text.append(f"\n→ {check.remedy}", style="default")
    line = Table.grid(padding=(0, 1))
    line.add_column(width=1)
    line.add_column(min_width=LABEL_CELLS, no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row(Text(mark, style), check.name, text)
    console.print(line, soft_wrap=False)
