"""`gpu-renter reconcile`: close what the chain decides, and hold the ledger against the chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from server.commands.output import Exit, JsonOption, print_json, working
from server.commands.process import run

if TYPE_CHECKING:
    from domain.networks import Network
    from graph.settings import Settings
    from tools.payments.chain import Transfer
    from tools.payments.reconcile import Report


def reconcile(as_json: JsonOption = False) -> None:
    """Close every payment that the chain decides, and compare the ledger with the chain.

    Safe at any time, also beside a running server, and as often as you like. Exit status 1 when
    the two do not agree to the micro-dollar.

    [dim]$[/] gpu-renter reconcile
    """
    from server.commands.money import money_settings

    settings = money_settings()
    with working("Asking the chain about every payment"):
        report = run(_reconcile(settings))
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report, settings.network)
    if not report.ok:
        raise typer.Exit(Exit.FAILED)


async def _reconcile(settings: Settings) -> Report:
    from graph.wiring import open_deps
    from server.commands.money import asking_chain, open_money

    async with open_money(settings) as opened:
        deps = await open_deps(opened.settings, opened.ledger, opened.http)
        with asking_chain(opened.settings):
            return await deps.reconciler.reconcile()


def _print(report: Report, network: Network) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Network", network.name)
    table.add_row("Paid by the ledger", str(report.ledger_total))
    table.add_row("Paid by the chain", str(report.chain_total))
    table.add_row("Runs that held money or awaited a refund", str(report.runs))
    table.add_row("Left to the ticks at work on them", _listed(report.busy))
    table.add_row("Outcome still unknown", _listed(report.still_open))
    table.add_row("Settled in the ledger, not on the chain", _listed(report.missing))
    table.add_row("Budget is not the sum of its parts", _listed(report.unbalanced))
    table.add_row("Could not be closed", _listed(report.problems))
    unknown = [f"{t.amount} to {t.recipient} in {t.tx_hash}" for t in report.unknown_transfers]
    table.add_row("On the chain, not in the ledger", _listed(unknown))
    unclaimed = [f"{t.amount} from {t.sender} in {t.tx_hash}" for t in report.unclaimed]
    table.add_row("Came back, and more than one run or none may expect it", _listed(unclaimed))
    console = Console(highlight=False)
    console.print(table)
    if report.ok:
        console.print("The ledger and the chain agree to the micro-dollar", style="green")
    else:
        console.print("The ledger and the chain do NOT agree: see above", style="bold red")


def _listed(things: tuple[str, ...] | list[str]) -> str:
    return "\n".join(things) if things else "none"


def _as_json(report: Report) -> dict[str, Any]:
    """Amounts in dollars and, exactly, in micro-dollars."""
    return {
        "ok": report.ok,
        "runs": report.runs,
        "busy": list(report.busy),
        "stillOpen": list(report.still_open),
        "ledgerTotal": report.ledger_total.dollars(),
        "ledgerTotalMicros": report.ledger_total.micros,
        "chainTotal": report.chain_total.dollars(),
        "chainTotalMicros": report.chain_total.micros,
        "unknownTransfers": [_transfer(t) for t in report.unknown_transfers],
        "unclaimed": [_transfer(t) for t in report.unclaimed],
        "missing": list(report.missing),
        "unbalanced": list(report.unbalanced),
        "problems": list(report.problems),
    }


def _transfer(transfer: Transfer) -> dict[str, Any]:
    return {
        "txHash": transfer.tx_hash,
        "block": transfer.block_number,
        "from": transfer.sender,
        "to": transfer.recipient,
        "amountMicros": transfer.amount.micros,
    }
