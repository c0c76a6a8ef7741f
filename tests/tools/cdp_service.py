"""The CDP stand-in behind a socket, with the calls that only the policy's tests need."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.tools.cdp_stand_in import PREFIX, CdpStandIn, Refused

OPERATIONS = {
    "sign/message": "signEvmMessage",
    "sign/transaction": "signEvmTransaction",
    "send/transaction": "sendEvmTransaction",
}


@dataclass
class CdpService(CdpStandIn):
    """`funded`: whom the faucet was asked for. `page_size`: policies on one page of the list."""

    funded: list[dict[str, Any]] = field(default_factory=list)
    page_size: int = 20

    def asgi(self) -> Starlette:
        app = super().asgi()
        accounts = PREFIX + "/v2/evm/accounts/{address}/"
        for path in OPERATIONS:
            app.router.routes.append(Route(accounts + path, self._operation, methods=["POST"]))
        app.router.routes.append(Route(PREFIX + "/v2/evm/faucet", self._faucet, methods=["POST"]))
        return app

    async def _operation(self, request: Request) -> Response:
        operation = OPERATIONS["/".join(request.url.path.split("/")[-2:])]
        try:
            body = await self._authenticated(request)
            name, _ = self._holder(request)
            self._judge(name, operation, body)
        except Refused as refused:
            return refused.response
        return JSONResponse({"signature": "0x00"})

    def _judge(self, name: str, operation: str, body: dict[str, Any]) -> None:
        """As `_apply_policies`, for the criteria of messages and transactions."""
        for policy in self._policies_of(name):
            rules = [r for r in policy["rules"] if r["operation"] == operation]
            matching = [r for r in rules if all(_meets(c, body) for c in r["criteria"])]
            if not matching or matching[0]["action"] == "reject":
                raise Refused(403, "policy_violation", f"{len(matching)} rules match")

    async def _faucet(self, request: Request) -> Response:
        try:
            self.funded.append(await self._authenticated(request))
        except Refused as refused:
            return refused.response
        return JSONResponse({"transactionHash": "0x" + "fa" * 32})

    def _list_policies(self, request: Request, body: dict[str, Any]) -> tuple[Any, int]:
        found = super()._list_policies(request, body)[0]["policies"]
        start = int(request.query_params.get("pageToken", "0"))
        page: dict[str, Any] = {"policies": found[start : start + self.page_size]}
        if start + self.page_size < len(found):
            page["nextPageToken"] = str(start + self.page_size)
        return page, 200


def _meets(criterion: dict[str, Any], body: dict[str, Any]) -> bool:
    if criterion["type"] == "evmMessage":
        return re.search(criterion["match"], body["message"]) is not None
    assert (criterion["type"], criterion["operator"]) == ("ethValue", ">=")
    return bool(body["value"] >= int(criterion["ethValue"]))


@contextmanager
def served(service: CdpService) -> Iterator[str]:
    """Serve it from a thread; gives its CDP_BASE_PATH."""
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    config = uvicorn.Config(service.asgi(), port=0, log_level="critical", lifespan="off", ws="none")
    server = Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{PREFIX}"
    finally:
        server.should_exit = True
        thread.join()
