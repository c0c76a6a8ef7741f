"""Faults of the network between the agent and everyone else, each by name.

The agent sees only what a fault lets through; what the other side got is up to the fault too.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from x402.http import PAYMENT_RESPONSE_HEADER, PAYMENT_SIGNATURE_HEADER

from tests.chaos.effects import Send

Fault = Callable[["Wire", httpx.Request, Send], Awaitable[httpx.Response]]

LATE_S: Final = 700
"""Later than any validBefore."""
HUGE: Final = 17 * 1024 * 1024
"""Bytes: above every limit of the agent's."""


@dataclass(slots=True)
class Wire:
    """What is still under way when the agent has given up on it."""

    now_s: Callable[[], float]
    cancel_nonce: Callable[[str], None]
    """Cancels a nonce of the agent's on the chain."""
    _late: list[tuple[float, httpx.Request, Send]] = field(default_factory=list)

    def later(self, seconds: float, request: httpx.Request, send: Send) -> None:
        self._late.append((self.now_s() + seconds, request, send))

    async def deliver(self) -> None:
        """Let what is due arrive; nobody waits for the answers any more."""
        due = [entry for entry in self._late if entry[0] <= self.now_s()]
        self._late = [entry for entry in self._late if entry[0] > self.now_s()]
        for _, request, send in due:
            try:
                response = await send(request)
                await response.aread()
            except httpx.HTTPError:
                continue


async def lost_request(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    del wire, send
    raise httpx.ReadTimeout("the request was lost", request=request)


async def lost_answer(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    del wire
    await (await send(request)).aread()
    raise httpx.ReadTimeout("the answer was lost", request=request)


async def delayed(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """It arrives after validBefore."""
    wire.later(LATE_S, request, send)
    raise httpx.ReadTimeout("the request is slow", request=request)


async def reordered(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """It arrives after the agent's next tick."""
    wire.later(1, request, send)
    raise httpx.ReadTimeout("the request is slow", request=request)


async def duplicated(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    del wire
    await (await send(request)).aread()
    return await send(request)


async def twins(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """Two copies arrive at the same time."""
    del wire
    first, second = await asyncio.gather(send(request), send(request), return_exceptions=True)
    if isinstance(second, httpx.Response):
        await second.aread()
    if isinstance(first, BaseException):
        raise first
    return first


async def replayed(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """It arrives again, soon, later, and after validBefore."""
    for seconds in (1, 90, LATE_S):
        wire.later(seconds, request, send)
    return await send(request)


async def truncated(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    del wire
    answer = await send(request)
    body = await answer.aread()

    async def half() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        raise httpx.RemoteProtocolError("cut off", request=request)

    return httpx.Response(answer.status_code, headers=_plain(answer), content=half())


async def oversized(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    del wire
    answer = await send(request)
    await answer.aread()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(0, HUGE, 1 << 20):
            yield b" " * (1 << 20)

    return httpx.Response(answer.status_code, headers=_plain(answer), content=endless())


async def redirected(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """The answer sends the agent elsewhere; nothing was done."""
    del wire, send
    elsewhere = request.url.copy_with(host="elsewhere.test")
    return httpx.Response(307, headers={"location": str(elsewhere)})


async def redirected_after(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """The same, after the request has had its effect."""
    await (await send(request)).aread()
    return await redirected(wire, request, send)


async def garbage(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    del wire
    await (await send(request)).aread()
    return httpx.Response(200, content=bytes(range(256)))


async def answer_402(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """A new challenge after the request has had its effect, as if nothing had been paid."""
    del wire
    await (await send(request)).aread()
    bare = {k: v for k, v in request.headers.items() if k != PAYMENT_SIGNATURE_HEADER.lower()}
    asked = await send(
        httpx.Request(request.method, request.url, headers=bare, content=request.content)
    )
    await asked.aread()
    if asked.status_code == 402:
        return asked
    return httpx.Response(402, json={"error": "payment required"})


def answers(status: int) -> Fault:
    async def fault(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
        del wire
        await (await send(request)).aread()
        return httpx.Response(status, json={"error": f"an invented {status}"})

    return fault


async def refused_unseen(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """A proxy says 402 before the vendor has seen the request."""
    del wire, request, send
    return httpx.Response(402, json={"error": "payment required"})


async def forged(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """A job and a PAYMENT-RESPONSE out of thin air: nothing was settled."""
    del wire
    if PAYMENT_SIGNATURE_HEADER.lower() not in request.headers:
        return await send(request)
    tx_hash = "0x" + "ab" * 32
    receipt = {"success": True, "transaction": tx_hash, "network": "eip155:31337"}
    asked: dict[str, Any] = json.loads(request.content)
    given = {
        "vendorJobId": asked.get("vendorJobId", "job_forged"),
        "status": "running",
        "paidUntil": "2026-01-02T00:00:00Z",
        "paymentTxId": tx_hash,
    }
    header = base64.b64encode(json.dumps(receipt).encode()).decode()
    return httpx.Response(200, json=given, headers={PAYMENT_RESPONSE_HEADER: header})


async def cancelled(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """The nonce is cancelled on the chain just before the vendor gets the payment."""
    if header := request.headers.get(PAYMENT_SIGNATURE_HEADER):
        signed = json.loads(base64.b64decode(header))["payload"]["authorization"]
        wire.cancel_nonce(signed["nonce"])
    return await send(request)


async def stale(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    """The chain's answer from a node that is some blocks, or its index, behind."""
    del wire
    answer = await send(request)
    reply = json.loads(await answer.aread())
    match reply.get("result"):
        case str(number) if json.loads(request.content)["method"] == "eth_blockNumber":
            reply["result"] = hex(max(0, int(number, 16) - 3))
        case list():
            reply["result"] = []
        case dict():
            reply["result"] = None
    return httpx.Response(200, json=reply)


async def rpc_error(wire: Wire, request: httpx.Request, send: Send) -> httpx.Response:
    del wire, send
    asked = json.loads(request.content)
    error = {"code": -32000, "message": "header not found"}
    return httpx.Response(200, json={"jsonrpc": "2.0", "id": asked["id"], "error": error})


def _plain(answer: httpx.Response) -> dict[str, str]:
    """The headers, less those that a changed body would contradict."""
    left_out = ("content-length", "transfer-encoding", "etag")
    return {k: v for k, v in answer.headers.items() if k not in left_out}


FAULTS: Final[dict[str, Fault]] = {
    "lost_request": lost_request,
    "lost_answer": lost_answer,
    "delayed": delayed,
    "reordered": reordered,
    "duplicated": duplicated,
    "twins": twins,
    "replayed": replayed,
    "truncated": truncated,
    "oversized": oversized,
    "redirected": redirected,
    "redirected_after": redirected_after,
    "garbage": garbage,
    "answer_402": answer_402,
    "answer_409": answers(409),
    "answer_410": answers(410),
    "answer_500": answers(500),
    "answer_503": answers(503),
    "refused_unseen": refused_unseen,
    "forged": forged,
    "cancelled": cancelled,
    "stale": stale,
    "rpc_error": rpc_error,
}
EVERYWHERE: Final = (
    "lost_request",
    "lost_answer",
    "duplicated",
    "truncated",
    "oversized",
    "redirected",
    "redirected_after",
    "garbage",
    "answer_409",
    "answer_500",
    "answer_503",
)
"""Faults that any request may meet."""
VENDOR_ONLY: Final = ("delayed", "reordered", "twins", "replayed", "answer_402", "answer_410")
PAID_ONLY: Final = ("forged", "cancelled", "refused_unseen")
CHAIN_ONLY: Final = ("stale", "rpc_error")
