"""`gpu-renter pay`: buy one thing from any x402 address, at most once."""

from __future__ import annotations

import re
import secrets
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import typer

from domain.errors import InvalidInput, RenterError
from domain.money import Usd
from server.terminal.output import Exit, JsonOption, print_json, print_problem
from server.terminal.process import run
from server.terminal.receipt import goods_json, print_receipt, receipt_of, shown

if TYPE_CHECKING:
    import httpx

    from server.buying import Bought
    from server.config.settings import Settings
    from server.terminal.money import Opened
    from tools.payments.chain import Chain
    from tools.payments.fetch import Fetched, FetchRequest

UNKNOWN_OUTCOME: Final = 4
"""This command's own exit status: sent, and not decided. Elsewhere, 4 means not found."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(slots=True)
class Order:
    """What was typed, checked."""

    purchase_id: str
    request: FetchRequest
    most: Usd
    pay_to: str | None
    timeout_s: float
    output: Path | None
    as_json: bool
    again: str
    """The command that goes on with this purchase."""
    settings: Settings = field(repr=False)
    taken: Fetched | None = None
    untaken: str = ""
    """Why the goods could not be written, if they could not."""

    def take(self, goods: Fetched) -> None:
        """Put the goods where they were asked for, at once: the seller may give them only once."""
        self.taken = goods
        try:
            if self.output is not None:
                self.output.write_bytes(goods.body)
            elif not self.as_json:
                typer.echo(shown(goods) if sys.stdout.isatty() else goods.body, nl=False)
        except OSError as error:
            self.untaken = f"the goods could not be written ({error.strerror})"


def pay(
    url: Annotated[str, typer.Argument(help="An x402 address (v1 or v2).", metavar="URL")],
    max_usd: Annotated[str, typer.Option(help="The most to pay, in dollars.")] = "1.00",
    purchase_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="Names this purchase: repeated, it never pays again.  \\[default: fresh]"
        ),
    ] = None,
    pay_to: Annotated[
        str | None,
        typer.Option(help="The only address to pay.  \\[default: whom the seller names]"),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="base, base-sepolia or local.  \\[default: NETWORK]")
    ] = None,
    rpc_url: Annotated[
        str | None, typer.Option(help="A JSON-RPC of it, to confirm on.  \\[default: RPC_URL]")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="\\[default: GET, or POST with --data]", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The body, or @FILE. JSON unless a header says other.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="'Name: value'; may be repeated. Never stored.")
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(min=0.1, max=600, help="Seconds for the seller, and then for the chain."),
    ] = 30.0,
    output: Annotated[
        Path | None, typer.Option(help="Write what was bought into this file.", metavar="FILE")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Buy one thing from any x402 address: reserved, signed, kept, sent, confirmed on the chain.

    What was bought goes to stdout, everything about the payment to stderr. Run it again with the
    same --id, after whatever happened: it never pays again, and asks for the goods with the same
    payment. A person's --max-usd is the approval.

    Exit status: 0 paid and confirmed, or free · 1 refused, or paid and not delivered · 3 a service
    does not answer, nothing was sent · 4 sent, and the outcome is unknown: run it again.

    [dim]$[/] gpu-renter pay https://api.example.com/report --max-usd 0.25 --id report-7
    """
    from server.terminal.money import money_settings, payee
    from tools.payments.fetch import fetch_request

    most = Usd.parse(max_usd, "--max-usd")
    if not most:
        raise InvalidInput("--max-usd", "it is 0", "Give the most that it may cost, like 0.25")
    if purchase_id is not None and not _ID.fullmatch(purchase_id):
        raise InvalidInput("--id", "it is not 1 to 64 letters, digits, . _ or -")
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InvalidInput("--output", f"{output} is no file that can be written")
    settings = money_settings(network, rpc_url)
    request = fetch_request(
        url,
        method=method,
        headers=header or [],
        data=_data(data),
        plain_http=settings.network.is_local,
    )
    chosen = purchase_id or secrets.token_hex(8)
    options = {
        "--id": chosen,
        "--max-usd": max_usd,
        "--pay-to": pay_to,
        "--network": network,
        "--rpc-url": rpc_url,
        "--method": method,
        "--data": data,
        "--output": output,
    }
    order = Order(
        purchase_id=chosen,
        request=request,
        most=most,
        pay_to=payee("--pay-to", pay_to) if pay_to else None,
        timeout_s=timeout,
        output=output,
        as_json=as_json,
        again=_again(url, header or [], options),
        settings=settings,
    )
    typer.echo(f"Purchase {order.purchase_id}", err=True)
    status = run(_pay(order))
    if status:
        raise typer.Exit(status)


def _again(url: str, headers: Sequence[str], options: Mapping[str, object]) -> str:
    """The command that goes on with a purchase: with no header's value, and no RPC's key."""
    if rpc_url := options.get("--rpc-url"):
        options = {**options, "--rpc-url": _shown_rpc(str(rpc_url))}
    given = [f"{name} {shlex.quote(str(value))}" for name, value in options.items() if value]
    names = [f"--header {shlex.quote(h.partition(':')[0] + ': …')}" for h in headers]
    return " ".join(["gpu-renter pay", shlex.quote(url), *given, *names])


def _shown_rpc(url: str) -> str:
    """An RPC's address as it may stand on a screen: beyond this machine, its path may be a key."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.hostname in ("127.0.0.1", "localhost", "::1") or url.endswith(host):
        return f"{parts.scheme}://{host}{parts.path}"
    return f"{parts.scheme}://{host}/…"


def _data(data: str | None) -> bytes | None:
    if data is None or not data.startswith("@"):
        return None if data is None else data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise InvalidInput("--data", f"{data[1:]} cannot be read ({error.strerror})") from None


async def _pay(order: Order) -> int:
    """Buy, and say what came of it. The exit status."""
    from server.buying import Buyer, Wish
    from server.terminal.money import open_money
    from server.terminal.unknown_chain import UnknownChain
    from server.wiring import now, open_deps
    from tools.payments.cashier import Cashier
    from tools.payments.chain import ChainReader
    from tools.payments.fetch import LARGEST_GOODS_BYTES, Fetcher
    from tools.wire.exchange import Limits

    async with open_money(order.settings) as opened, _seller_client(order, opened) as seller:
        settings, network = opened.settings, opened.settings.network
        deps = await open_deps(settings, opened.ledger, opened.http)
        chain: Chain = UnknownChain(network, now)
        if settings.rpc_url is not None:
            chain = reader = ChainReader(network, settings.chain_url, opened.http)
            await reader.check()
        timeout = order.timeout_s
        limits = Limits(min(timeout, 10), timeout, timeout, LARGEST_GOODS_BYTES)
        fetcher = Fetcher(seller, order.request, network, limits)
        cashier = Cashier(
            opened.ledger, deps.vendors, deps.wallet, chain, deps.cashier.policy, now, fetcher
        )
        confirmable = settings.rpc_url is not None
        wish = Wish(order.purchase_id, order.request, order.most, order.pay_to)
        buyer = Buyer(
            wish,
            order.take,
            opened.ledger,
            cashier,
            fetcher,
            network,
            now,
            lease_seconds=settings.lease_seconds,
            patience_s=timeout if confirmable else 0,
        )
        try:
            bought = await buyer.buy()
        except RenterError as error:
            if not buyer.sent:
                raise
            if order.as_json:
                told = {"id": order.purchase_id, "outcome": "unknown", "problem": str(error)}
                print_json(told | goods_json(order.taken, order.output))
            print_problem(f"The payment was sent, and its outcome is unknown: {error}")
            _go_on(order)
            return UNKNOWN_OUTCOME
    network = order.settings.network
    receipt = receipt_of(order.purchase_id, bought, order.request, network)
    if order.as_json:
        print_json(receipt | goods_json(order.taken, order.output))
    else:
        print_receipt(receipt)
    return _conclude(order, bought, confirmable)


@asynccontextmanager
async def _seller_client(order: Order, opened: Opened) -> AsyncIterator[httpx.AsyncClient]:
    """How the seller is reached: outside the local network at public addresses alone, unless the
    person who pays has typed an address of this very machine.
    """
    from tools.wire.public_hosts import public_client

    if order.settings.network.is_local or order.request.on_this_machine:
        yield opened.http
        return
    async with public_client() as http:
        yield http


def _conclude(order: Order, bought: Bought, confirmable: bool) -> int:
    from server.buying import Outcome

    if order.untaken:
        print_problem(order.untaken)
    match bought.outcome:
        case Outcome.UNKNOWN:
            why = bought.problem or "the chain has not decided yet"
            if bought.had_goods and not order.settings.network.is_local:
                why += "; it is final once its block is safe, some minutes after it was paid"
            if not confirmable:
                why = "there is no RPC to confirm it on"
            sent = "The payment was sent, and its outcome is unknown"
            print_problem(f"{sent}: {why}")
            _go_on(order, "" if confirmable else " --rpc-url …")
            return UNKNOWN_OUTCOME
        case Outcome.NOT_PAID:
            print_problem(f"Nothing was paid, and nothing can be under this --id: {bought.problem}")
            return Exit.FAILED
        case _ if bought.goods is None and bought.had_goods:
            typer.echo(f"Delivered before; not given again: {bought.problem}", err=True)
            return Exit.OK
        case _ if bought.goods is None:
            print_problem(f"It was paid, and the goods have not come: {bought.problem}")
            _go_on(order)
            return Exit.FAILED
    return Exit.FAILED if order.untaken else Exit.OK


def _go_on(order: Order, more: str = "") -> None:
    typer.echo(f"Go on with it, paying no more: {order.again}{more}", err=True)
