"""`gpu-renter doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from server.commands.output import Exit, JsonOption, colour, print_json
from server.commands.process import run

if TYPE_CHECKING:
    from server.doctor import Check


def doctor(as_json: JsonOption = False) -> None:
    """Check each thing that the configured mode needs, and say what to do.

    Settings, MongoDB and its writes, chain and USDC contract, wallet and balance, each vendor (by
    asking for a quote), the planner's model. Pays nothing. Exit status 1 when something is wrong.

    [dim]$[/] gpu-renter doctor
    """
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
    from server.doctor import examine

    found = []
    async for check in examine():
        found.append(check)
        if not quiet:
            _print(check)
    return found


def _print(check: Check) -> None:
    mark, shade = {
        "ok": ("✓", typer.colors.GREEN),
        "skipped": ("–", typer.colors.YELLOW),
        "wrong": ("✗", typer.colors.RED),
    }[check.state]
    typer.secho(f"{mark} ", fg=shade, nl=False, color=colour())
    typer.echo(f"{check.name:<20} {check.finding}")
    if check.remedy:
        typer.echo(f"  {'':<20} → {check.remedy}")
