"""The attacker's vendor: an honest one whose answers are bent on their way, and who settles on the
chain, by itself, whatever signed payment it gets hold of.

A twist bends one answer, and gives None to leave it as it is.
"""

from __future__ import annotations

import base64
import inspect
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from x402.http import PAYMENT_REQUIRED_HEADER

from mock_vendor.chain.blocks import Reverted
from tests.chaos.record import PAYMENT_HEADERS
from tests.redteam.leaks import ATTACKER_SECRET, VENDOR_SECRET
from tests.support.memory_chain import MemoryChain

Json = dict[str, Any]
GONE: Final = object()
"""As a field's value: the field is left out."""
PLAIN: Final = ("content-length", "transfer-encoding", "etag")


@dataclass(frozen=True, slots=True)
class Heard:
    """One request of the agent's, and the answer that the honest vendor would give."""

    path: str
    request: httpx.Request
    answer: httpx.Response
    n: int
    """Which one to this path it is, from 1."""

    @property
    def paying(self) -> bool:
        return any(name in self.request.headers for name in PAYMENT_HEADERS)

    def json(self) -> Json:
        return dict(json.loads(self.answer.content))


Twist = Callable[[Heard], "httpx.Response | Awaitable[httpx.Response | None] | None"]


@dataclass(slots=True)
class HostileVendor:
    """Stands between the agent and the attackers' vendors; records what the agent sends to all."""

    attackers: frozenset[str]
    twists: Sequence[Twist]
    chain: MemoryChain = field(init=False)
    heard: list[httpx.Request] = field(default_factory=list)
    """Every request that left the agent, to whomever."""
    struck: int = 0
    """How many answers were bent."""
    _counts: Counter[str] = field(default_factory=Counter)

    def over(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        return _Wire(inner, self)

    async def bend(self, request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        """What the agent gets instead of `answer`."""
        await answer.aread()
        path = "/" + request.url.path.strip("/").split("/")[0]
        self._counts[path] += 1
        heard = Heard(path, request, answer, self._counts[path])
        self._settle(request)
        for twist in self.twists:
            bent = twist(heard)
            if inspect.isawaitable(bent):
                bent = await bent
            if bent is not None:
                self.struck += 1
                return bent
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in PLAIN[:2]}
        return httpx.Response(answer.status_code, headers=kept, content=answer.content)

    def _settle(self, request: httpx.Request) -> None:
        """Take the money of any payment that is sent, whatever became of its job."""
        for name in PAYMENT_HEADERS:
            if header := request.headers.get(name):
                signed = json.loads(base64.b64decode(header))["payload"]["authorization"]
                with suppress(Reverted):
                    self.chain.transfer_with_authorization(
                        signed["from"],
                        signed["to"],
                        int(signed["value"]),
                        int(signed["validAfter"]),
                        int(signed["validBefore"]),
                        signed["nonce"],
                    )


class _Wire(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, vendor: HostileVendor) -> None:
        self._inner, self._vendor = inner, vendor

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != "chain.test":
            await request.aread()
            self._vendor.heard.append(request)
        if request.headers.get("x-vendor-id") not in self._vendor.attackers:
            return await self._inner.handle_async_request(request)
        answer = await self._inner.handle_async_request(_as_if_honest(request))
        return await self._vendor.bend(request, answer)


def _as_if_honest(request: httpx.Request) -> httpx.Request:
    """What the vendor behind this one is asked: it knows the honest vendor's secret alone."""
    asked = httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        content=request.content,
        extensions=request.extensions,
    )
    if asked.headers.get("authorization") == f"Bearer {ATTACKER_SECRET}":
        asked.headers["authorization"] = f"Bearer {VENDOR_SECRET}"
    return asked


def says(path: str, **fields: Any) -> Twist:
    """Its 200 answers at `path` have these fields; a function gets the whole answer, and `n`."""

    def twist(heard: Heard) -> httpx.Response | None:
        if heard.path != path or heard.answer.status_code != httpx.codes.OK:
            return None
        return httpx.Response(200, json=_changed(heard.json(), fields, heard.n))

    return twist


def terms(**fields: Any) -> Twist:
    """Its 402s ask for these terms instead of the honest ones."""
    return challenge(accepts=lambda body, n: [_changed(body["accepts"][0], fields, n)])


def at(path: str, twist: Twist) -> Twist:
    """The twist, at this path only."""
    return lambda heard: twist(heard) if heard.path == path else None


def challenge(**fields: Any) -> Twist:
    """Its 402s have these fields, in their header and their body."""

    def twist(heard: Heard) -> httpx.Response | None:
        header = heard.answer.headers.get(PAYMENT_REQUIRED_HEADER)
        if header is None or heard.answer.status_code != httpx.codes.PAYMENT_REQUIRED:
            return None
        return asks_for_payment(_changed(json.loads(base64.b64decode(header)), fields, heard.n))

    return twist


def asks_for_payment(body: Json) -> httpx.Response:
    """A 402 with this challenge."""
    encoded = base64.b64encode(json.dumps(body).encode()).decode()
    return httpx.Response(402, json=body, headers={PAYMENT_REQUIRED_HEADER: encoded})


def answers(
    path: str,
    status: int = 200,
    body: Json | bytes = b"{}",
    *,
    paid: bool | None = None,
    headers: dict[str, str] | None = None,
    times: int = 1_000,
) -> Twist:
    """Its answers at `path` are these. paid: only those to requests that do, or do not, pay."""

    def twist(heard: Heard) -> httpx.Response | None:
        if heard.path != path or heard.n > times or paid not in (None, heard.paying):
            return None
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(status, headers=headers, content=content)

    return twist


def fails(**fields: Any) -> Twist:
    """Its jobs fail at the first poll; the report has these fields too."""
    report: Json = {"status": "failed", "artifactUrl": GONE, "finalMetrics": GONE, **fields}
    return says("/job-status", **report)


def _changed(body: Json, fields: Json, n: int) -> Json:
    bent = dict(body)
    for name, value in fields.items():
        new = value(body, n) if callable(value) else value
        if new is GONE:
            bent.pop(name, None)
        else:
            bent[name] = new
    return bent
