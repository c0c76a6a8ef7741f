"""A shop that sells one thing over x402, and the chain it is paid on, as one ASGI app.

    /thing          for sale, in the version of x402 that `shop.version` says
    /free           for nothing
    /moved          a redirect to /thing
    /rpc/           the chain's JSON-RPC

`MemoryFacilitator` settles for real on a `MemoryChain`. What may go wrong is in `shop.faults`.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send
from x402 import PaymentPayload, PaymentRequirements
from x402.http import decode_payment_signature_header, encode_payment_response_header

from mock_vendor.accounts import AGENT_FUNDS, LOCAL_NETWORK, LOCAL_USDC_ADDRESS, dev_address
from tests.support.memory_chain import MemoryChain, Transfer
from tests.support.memory_facilitator import MemoryFacilitator

AGENT: Final = dev_address("agent")
SHOP: Final = dev_address("shop")
GOODS: Final = b'{"weather": "sunny"}'
HEADERS: Final = ("PAYMENT-SIGNATURE", "X-PAYMENT")


@dataclass
class PaidShop:
    clock: Callable[[], float]
    price: int = 250_000
    version: int = 2
    goods: bytes = GOODS
    terms: dict[str, Any] = field(default_factory=dict)
    """What the challenge says instead of the truth."""
    replays: bool = True
    """Whether a payment that was taken before gets its goods again; else it gets a 402."""
    faults: set[str] = field(default_factory=set)
    """500_before, 500_after: settling; redirect: a paid request; silent_402: no challenge."""
    asked: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request for the thing, in order."""
    bodies: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chain = MemoryChain(self.clock)
        self.chain.mint(AGENT, AGENT_FUNDS)
        self.facilitator = MemoryFacilitator(self.chain)
        self._sold: dict[str, str] = {}
        thing = Route("/thing", self._thing, methods=["GET", "POST"])
        free = Route("/free", self._free, methods=["GET", "POST"])
        moved = Route("/moved", self._moved)
        self._app = Starlette(routes=[thing, free, moved, Mount("/rpc", self.chain.asgi())])

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    @property
    def payments(self) -> list[str]:
        """The payment headers that came, in order."""
        return [h[name.lower()] for h in self.asked for name in HEADERS if name.lower() in h]

    def transfers(self) -> list[Transfer]:
        """What the agent has paid, as the chain itself has it."""
        return [t for t in self.chain.transfers if t.sender == AGENT]

    async def _thing(self, request: Request) -> Response:
        self.asked.append(dict(request.headers))
        self.bodies.append(await request.body())
        header = next((request.headers[n] for n in HEADERS if n in request.headers), None)
        if header is None:
            return self._challenge()
        if header in self._sold:
            return self._sell(header) if self.replays else self._challenge("nonce used")
        if "500_before" in self.faults:
            return JSONResponse({"error": "the till is stuck"}, 500)
        if "redirect" in self.faults:
            return RedirectResponse("/free", 307)
        payload = decode_payment_signature_header(header)
        settled = await self.facilitator.settle(self._as_v2(payload), self._requirements())
        if not settled.success:
            return self._challenge(settled.error_reason or "refused")
        self._sold[header] = encode_payment_response_header(settled)
        if "500_after" in self.faults:
            return JSONResponse({"error": "paid, and then it broke"}, 500)
        return self._sell(header)

    async def _free(self, request: Request) -> Response:
        self.asked.append(dict(request.headers))
        return Response(self.goods, media_type="application/json")

    async def _moved(self, _: Request) -> Response:
        return RedirectResponse("/thing")

    def _sell(self, header: str) -> Response:
        claim = {"PAYMENT-RESPONSE": self._sold[header]}
        return Response(self.goods, media_type="application/json", headers=claim)

    def _requirements(self) -> PaymentRequirements:
        honest: dict[str, Any] = {
            "scheme": "exact",
            "network": LOCAL_NETWORK,
            "asset": LOCAL_USDC_ADDRESS,
            "amount": str(self.price),
            "pay_to": SHOP,
            "max_timeout_seconds": 300,
            "extra": {"name": "USD Coin", "version": "2"},
        }
        return PaymentRequirements(**honest | self.terms)

    def _challenge(self, error: str = "pay first") -> Response:
        if "silent_402" in self.faults:
            return Response(status_code=402)
        terms = self._requirements()
        if self.version == 1:
            entry = {
                "scheme": terms.scheme,
                "network": "local",
                "asset": terms.asset,
                "maxAmountRequired": terms.amount,
                "payTo": terms.pay_to,
                "resource": "/thing",
                "maxTimeoutSeconds": terms.max_timeout_seconds,
            }
            return JSONResponse({"x402Version": 1, "error": error, "accepts": [entry]}, 402)
        document = {
            "x402Version": 2,
            "error": error,
            "resource": {"url": "/thing"},
            "accepts": [terms.model_dump(by_alias=True)],
        }
        header = base64.b64encode(json.dumps(document).encode()).decode()
        return JSONResponse({}, 402, headers={"PAYMENT-REQUIRED": header})

    def _as_v2(self, payload: Any) -> PaymentPayload:
        if isinstance(payload, PaymentPayload):
            return payload
        return PaymentPayload(payload=payload.payload, accepted=self._requirements())


@dataclass
class ServedShop:
    """A shop behind a socket on loopback. Put a fresh one up with `reopen`."""

    url: str
    shop: PaidShop

    @property
    def thing(self) -> str:
        return f"{self.url}/thing"

    @property
    def rpc_url(self) -> str:
        return f"{self.url}/rpc/"

    def reopen(self, shop: PaidShop) -> PaidShop:
        self.shop = shop
        return shop


@contextmanager
def served(shop: PaidShop) -> Iterator[ServedShop]:
    """Serve `shop`, or what later takes its place, from a thread of its own."""
    place = ServedShop("", shop)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await place.shop.asgi(scope, receive, send)

    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="off", ws="none")
    server = Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(10)
    place.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield place
    finally:
        server.should_exit = True
        thread.join()
