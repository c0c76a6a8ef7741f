"""`gpu-renter doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from server.commands.output import Exit, JsonOption, print_json, working
from server.commands.process import run

if TYPE_CHECKING:
    from rich.console import Console

    from server.doctor import Check

LABEL_CELLS = 20


def doctor(as_json: JsonOption = False) -> None:
    """Check each thing that the configured mode needs, and say what to do.

    Settings, disk, files with secrets, queue, webhooks, traces, MongoDB and its writes, chain and
    USDC contract, clock, wallet and balance, API keys, each vendor (by asking for a quote), the
    planner's model. Pays nothing. Exit status 1 when something is wrong; what is skipped is not.

    [dim]$[/] gpu-renter doctor
    [dim]$[/] gpu-renter doctor --json | jq '.checks[] | select(.state == "wrong")'
    """
    with working("Checking"):
        found = run(_examine(quiet=as_json))
    wrong = [check for check in found if check.state == "wrong"]
    if as_json:
        print_json({"healthy": not wrong, "checks": [asdict(check) for check in found]})
    elif wrong:
        typer.echo(f"{len(wrong)} of {len(found)} checks found something wrong")
    else:
        typer.echo("Nothing is wrong")
    if wrong:
        raise typer.Exit(Exit.FAILED)


async def _examine(*, quiet: bool) -> list[Check]:
    from rich.console import Console

    from server.doctor import examine

    console = Console(highlight=False)
    found = []
    async for check in examine():
        found.append(check)
        if not quiet:
            _print(console, check)
    return found


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
