"""`gpu-renter reconcile`: close what the chain decides, and hold the ledger against the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.errors import InvalidInput
from domain.money import Usd
from server.commands.runs import UrlOption
from server.terminal.output import Exit, JsonOption, print_json, working
from server.terminal.process import run

if TYPE_CHECKING:
    from domain.networks import Network
    from graph.deps import Deps
    from ledger.compared import Stray


@dataclass(frozen=True, slots=True)
class _Word:
    """What a person says about a payment or transfer, before all is compared."""

    acknowledge: str | None
    resolve: str | None
    paid: str | None
    unpaid: bool
    payment: str | None
    reason: str

    def check(self) -> None:
        """Raise InvalidInput for what makes no sense together."""
        if self.acknowledge and self.resolve:
            raise InvalidInput("--acknowledge", "it goes without --resolve", "Do one at a time")
        if not self.resolve:
            if self.paid or self.unpaid or self.payment:
                raise InvalidInput("--resolve", "it is missing", "Give the id of the run")
            return
        if bool(self.paid) == self.unpaid:
            raise InvalidInput(
                "--resolve", "it needs --paid TX or --unpaid", "Say what became of the payment"
            )
        if not self.reason.strip():
            raise InvalidInput("--reason", "it is missing", "Say why, for the run's journal")


def reconcile(
    full: Annotated[
        bool,
        typer.Option("--full", help="Compare everything, not only what came since the last time."),
    ] = False,
    acknowledge: Annotated[
        str | None,
        typer.Option(
            metavar="TX", help="Say that you know of a transfer out of the wallet: your own, say."
        ),
    ] = None,
    resolve: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Close a payment of this run that the ledger cannot explain."
        ),
    ] = None,
    paid: Annotated[
        str | None,
        typer.Option(metavar="TX", help="With --resolve: the transaction that paid."),
    ] = None,
    unpaid: Annotated[
        bool, typer.Option("--unpaid", help="With --resolve: nothing was paid, and nothing can be.")
    ] = False,
    payment: Annotated[
        str | None,
        typer.Option(metavar="ID", help="With --unpaid: which payment, if the run has several."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why you say so; it is kept.")] = "",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close every payment that the chain decides, and compare the ledger with the chain.

    Safe at any time, also beside a running server, and as often as you like. Exit status 1 when
    the two do not agree to the micro-dollar.

    [dim]$[/] gpu-renter reconcile
    [dim]$[/] gpu-renter reconcile --acknowledge 0x… --reason "moved to savings"
    [dim]$[/] gpu-renter reconcile --resolve RUN --paid 0x… --reason "seen on chain"
    """
    word = _Word(acknowledge, resolve, paid, unpaid, payment, reason)
    word.check()
    if url is not None and (acknowledge or resolve):
        raise InvalidInput(
            "--url",
            "what a person says about a payment is written into the store at hand, by no server",
            "Leave it out, where the store is the one of that server",
        )
    with working("Asking the chain about every payment"):
        said, told = run(_reconcile(url, word, full))
    if as_json:
        print_json(told | ({"done": said} if said else {}))
    else:
        for sentence in said:
            typer.echo(sentence)
        _print(told)
    if not told["ok"]:
        raise typer.Exit(Exit.FAILED)


async def _reconcile(url: str | None, word: _Word, full: bool) -> tuple[list[str], dict[str, Any]]:
    """By a server, which has the ledger open already; else by what opens it here, as whatever a
    person says about a payment is.
    """
    from server.terminal.client import through_server

    told = None
    if not (word.acknowledge or word.resolve):
        told = await through_server(url, lambda server: server.order("/api/reconcile", full=full))
    return ([], told) if told is not None else await _reconcile_here(word, full)


async def _reconcile_here(word: _Word, full: bool) -> tuple[list[str], dict[str, Any]]:
    from server.reports.reports import reconcile_answer
    from server.terminal.money import asking_chain, money_settings, open_money
    from server.wiring import open_deps

    settings = money_settings()
    async with open_money(settings) as opened:
        deps = await open_deps(opened.settings, opened.ledger, opened.http)
        with asking_chain(opened.settings):
            said = await _say(deps, opened.settings.network, word)
            report = await deps.reconciler.reconcile(full=full)
    answer = reconcile_answer(report, settings.network, deps.wallet.address)
    return said, answer.model_dump(mode="json", by_alias=True)


async def _say(deps: Deps, network: Network, word: _Word) -> list[str]:
    """Do what the person asked for; sentences that say what was done."""
    from tools.payments.resolve import Resolver

    resolver = Resolver(
        deps.ledger, deps.cashier.judge, deps.chain, network, deps.wallet.address, deps.now
    )
    if word.acknowledge:
        strays = await resolver.acknowledge(word.acknowledge, word.reason)
        return [f"Acknowledged: {_line(stray)}" for stray in strays]
    if word.resolve and word.paid:
        payments = await resolver.paid(word.resolve, word.paid, word.reason)
        return [f"Booked as paid: {p.amount} to {p.vendor_id}, slot {p.slot}" for p in payments]
    if word.resolve:
        closed = await resolver.unpaid(word.resolve, word.reason, word.payment)
        return [f"Closed as not paid: {closed.amount} to {closed.vendor_id}, slot {closed.slot}"]
    return []


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
    acknowledged = Usd(told["acknowledgedMicros"])
    if acknowledged:
        table.add_row("Left without the ledger, and acknowledged", acknowledged.exact())
    table.add_row("Runs that held money or awaited a refund", str(told["runs"]))
    table.add_row("Left to the ticks at work on them", _listed(told["busy"]))
    table.add_row("Outcome still unknown", _listed(told["stillOpen"]))
    unclear = [
        f"slot {u['slot']} of run {u['runId']}: {u['problem']}. {u['remedy']}"
        for u in told["unclear"]
    ]
    table.add_row("Cannot be explained", _listed(unclear))
    table.add_row("Settled in the ledger, not on the chain", _listed(told["missing"]))
    table.add_row("Budget is not the sum of its parts", _listed(told["unbalanced"]))
    table.add_row("Could not be closed", _listed(told["problems"]))
    unknown = [f"{_amount(t)} to {t['to']} in {t['txHash']}" for t in told["unknownTransfers"]]
    table.add_row("On the chain, not in the ledger", _listed(unknown))
    unclaimed = [f"{_amount(t)} from {t['from']} in {t['txHash']}" for t in told["unclaimed"]]
    table.add_row("Came back, and more than one run or none may expect it", _listed(unclaimed))
    console = Console(highlight=False)
    console.print(table)
    if not told["ok"]:
        console.print("The ledger and the chain do NOT agree: see above", style="bold red")
        if unknown:
            console.print("Was it you? gpu-renter reconcile --acknowledge TX")
    elif acknowledged:
        console.print(
            "The ledger and the chain agree to the micro-dollar, but for what was acknowledged",
            style="green",
        )
    else:
        console.print("The ledger and the chain agree to the micro-dollar", style="green")


def _line(stray: Stray) -> str:
    return f"{stray.amount.exact()} to {stray.other} in {stray.tx_hash}"


def _listed(things: list[str]) -> str:
    return "\n".join(things) if things else "none"


def _amount(transfer: dict[str, Any]) -> str:
    return Usd(transfer["amountMicros"]).exact()
