"""`gpu-renter reconcile`: close what the chain decides, and hold the ledger against the chain."""

from __future__ import annotations

from typing import Any

import typer

from domain.money import Usd
from server.commands.output import Exit, JsonOption, print_json, working
from server.commands.process import run
from server.commands.runs import UrlOption


def reconcile(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Close every payment that the chain decides, and compare the ledger with the chain.

    Safe at any time, also beside a running server, and as often as you like. Exit status 1 when
    the two do not agree to the micro-dollar.

    [dim]$[/] gpu-renter reconcile
    """
    with working("Asking the chain about every payment"):
        told = run(_reconcile(url))
    if as_json:
        print_json(told)
    else:
        _print(told)
    if not told["ok"]:
        raise typer.Exit(Exit.FAILED)


async def _reconcile(url: str | None) -> dict[str, Any]:
    """By a server, which has the ledger open already; else by what opens it here."""
    from server.commands.client import through_server

    told = await through_server(url, lambda server: server.order("/api/reconcile"))
    return await _reconcile_here() if told is None else told


async def _reconcile_here() -> dict[str, Any]:
    from graph.wiring import open_deps
    from server.commands.money import asking_chain, money_settings, open_money
    from server.reports import reconcile_answer

    settings = money_settings()
    async with open_money(settings) as opened:
        deps = await open_deps(opened.settings, opened.ledger, opened.http)
        with asking_chain(opened.settings):
            report = await deps.reconciler.reconcile()
    return reconcile_answer(report, settings.network).model_dump(mode="json", by_alias=True)


def _print(told: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Network", told["networkName"])
    table.add_row("Paid by the ledger", Usd(told["ledgerTotalMicros"]).exact())
    table.add_row("Paid by the chain", Usd(told["chainTotalMicros"]).exact())
    table.add_row("Runs that held money or awaited a refund", str(told["runs"]))
    table.add_row("Left to the ticks at work on them", _listed(told["busy"]))
    table.add_row("Outcome still unknown", _listed(told["stillOpen"]))
    table.add_row("Settled in the ledger, not on the chain", _listed(told["missing"]))
    table.add_row("Budget is not the sum of its parts", _listed(told["unbalanced"]))
    table.add_row("Could not be closed", _listed(told["problems"]))
    unknown = [f"{_amount(t)} to {t['to']} in {t['txHash']}" for t in told["unknownTransfers"]]
    table.add_row("On the chain, not in the ledger", _listed(unknown))
    unclaimed = [f"{_amount(t)} from {t['from']} in {t['txHash']}" for t in told["unclaimed"]]
    table.add_row("Came back, and more than one run or none may expect it", _listed(unclaimed))
    console = Console(highlight=False)
    console.print(table)
    if told["ok"]:
        console.print("The ledger and the chain agree to the micro-dollar", style="green")
    else:
        console.print("The ledger and the chain do NOT agree: see above", style="bold red")


def _listed(things: list[str]) -> str:
    return "\n".join(things) if things else "none"


def _amount(transfer: dict[str, Any]) -> str:
    return Usd(transfer["amountMicros"]).exact()
