"""A buyer's whole surroundings for tests of `server/buying.py`: shop, chain, ledger, one clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from domain.ids import purchase_id_of
from domain.journal import first_broken
from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from ledger.ledger import Ledger
from mock_vendor.accounts import dev_key
from server.buying import Bought, Buyer, Wish
from tests.chaos.effects import Crash, Hook, Life
from tests.chaos.record import Record
from tests.support.builders import check_books, open_ledger
from tests.support.paid_shop import HEADERS, PaidShop
from tests.support.stack import FreshDatabase
from tests.support.world import Clock
from tools.payments.cashier import Cashier
from tools.payments.chain import Chain, ChainReader
from tools.payments.fetch import Fetched, Fetcher, FetchRequest, fetch_request
from tools.payments.wallets import LocalWallet
from tools.vendors.http import HttpVendorClient
from tools.vendors.secrets import VendorSecrets

URL = "http://127.0.0.1/thing?key=query-secret"


class Wire(httpx.AsyncBaseTransport):
    """HTTP to the shop. `crash`: before_send or after_answer of a paid request; `lose` likewise."""

    def __init__(self, shop: PaidShop) -> None:
        self._app = httpx.ASGITransport(shop.asgi)
        self.crash = ""
        self.lose = ""
        self.dead = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        paid = any(name in request.headers for name in HEADERS)
        if self.dead and request.url.path.startswith(self.dead):
            raise httpx.ConnectError("dead", request=request)
        if paid and self.crash == "before_send":
            raise Crash
        if paid and self.lose == "request":
            raise httpx.ReadTimeout("lost", request=request)
        answer = await self._app.handle_async_request(request)
        if paid and self.crash == "after_answer":
            raise Crash
        if paid and self.lose == "answer":
            raise httpx.ReadTimeout("lost", request=request)
        return answer


@dataclass
class Till:
    """A buyer's whole surroundings, in one process and at one standing clock."""

    ledger: Ledger
    clock: Clock
    shop: PaidShop
    wire: Wire
    http: httpx.AsyncClient
    policy: SpendingPolicy = field(default_factory=lambda: SpendingPolicy(LOCAL, Usd.parse(100)))
    role: str = "agent"
    taken: list[Fetched] = field(default_factory=list)

    def life(self, *hooks: Hook) -> tuple[Till, Life]:
        """The same in a process of its own, which the hooks may end at any of its effects."""
        life = Life(1, Record(), hooks)
        wraps = life.wraps()
        http = httpx.AsyncClient(transport=wraps.http(self.wire))
        return replace(self, ledger=Ledger.over(wraps.store(self.ledger.store)), http=http), life

    async def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def chain(self) -> ChainReader:
        return ChainReader(LOCAL, "http://127.0.0.1/rpc/", self.http, retry_wait_s=0)

    async def buy(
        self,
        purchase_id: str = "one",
        dollars: object = 1,
        *,
        request: FetchRequest | None = None,
        pay_to: str | None = None,
        chain: Chain | None = None,
    ) -> Bought:
        wanted = request or asked_for()
        reader = chain or self.chain()
        fetcher = Fetcher(self.http, wanted, LOCAL)
        cashier = Cashier(
            self.ledger,
            HttpVendorClient(self.http, VendorSecrets({})),
            LocalWallet(dev_key(self.role)),
            reader,
            self.policy,
            self.clock.now,
            fetcher,
        )
        buyer = Buyer(
            Wish(purchase_id, wanted, Usd.parse(dollars), pay_to),
            self.taken.append,
            self.ledger,
            cashier,
            fetcher,
            LOCAL,
            self.clock.now,
            lease_seconds=60,
            patience_s=3,
            pause=self.pause,
        )
        return await buyer.buy()

    async def check(self, spent: int, purchase_id: str = "one") -> None:
        """The books balance, the journal is whole, and the chain moved `spent` in all."""
        run = await self.ledger.purchases.get(purchase_id_of(purchase_id))
        check_books(run)
        assert run.spent == Usd(spent)
        entries = await self.ledger.observations.of_run(run.id)
        assert first_broken(entries) is None
        assert (run.journal_seq, run.journal_hash) == (
            (entries[-1].seq, entries[-1].hash) if entries else (0, "")
        )
        assert sum(t.value for t in self.shop.transfers()) == spent


def asked_for(url: str = URL, **changes: Any) -> FetchRequest:
    options: dict[str, Any] = {"method": None, "headers": [], "data": None, "plain_http": True}
    return fetch_request(url, **options | changes)


@asynccontextmanager
async def open_till(database: FreshDatabase) -> AsyncIterator[Till]:
    clock = Clock()
    shop = PaidShop(clock.seconds)
    wire = Wire(shop)
    async with open_ledger(database) as ledger, httpx.AsyncClient(transport=wire) as http:
        yield Till(ledger, clock, shop, wire, http)
