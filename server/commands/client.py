"""A running server, as the commands reach it: its HTTP API, with its errors as ours."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from domain.errors import (
    Conflict,
    DependencyDown,
    InvalidInput,
    LeaseHeld,
    NotFound,
    RenterError,
)

URL_VARIABLE: Final = "GPU_RENTER_URL"
DEFAULT_URL: Final = "http://127.0.0.1:3000"
TIMEOUT_S: Final = 120.0
"""A tick may wait for vendors, the chain and a model."""
CONNECT_TIMEOUT_S: Final = 5.0


class ServerClient:
    """`async with ServerClient(url) as server: await server.tick(run_id)`.

    Every call raises DependencyDown where no server answers, InvalidInput, NotFound, LeaseHeld,
    Conflict, or RenterError with what the server said.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InvalidInput("--url", f"{self.url!r} is not an http(s) address")
        # A proxy of the environment is for the world outside, not for this machine.
        outside = address.hostname not in ("127.0.0.1", "localhost", "::1")
        timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._http = httpx.AsyncClient(timeout=timeout, trust_env=outside)

    async def start(self, user_id: str, goal: str, budget_dollars: float) -> dict[str, Any]:
        body = {"userId": user_id, "goal": goal, "budgetTotal": budget_dollars}
        return await self._call("POST", "/api/agent-start", body)

    async def tick(self, run_id: str) -> dict[str, Any]:
        return await self._call("POST", "/api/agent-tick", {"runId": run_id})

    async def status(self, run_id: str) -> dict[str, Any]:
        return await self._call("GET", "/api/agent-status", params={"runId": run_id})

    async def cancel(self, run_id: str, reason: str) -> dict[str, Any]:
        return await self._call("POST", "/api/agent-cancel", {"runId": run_id, "reason": reason})

    async def approve(self, run_id: str, approval_id: str, yes: bool) -> dict[str, Any]:
        body = {"runId": run_id, "approvalId": approval_id, "approve": yes}
        return await self._call("POST", "/api/agent-approve", body)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        params: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, self.url + path, json=body, params=params)
        except httpx.ConnectError:
            raise DependencyDown(
                f"There is no server at {self.url}",
                f"Run: gpu-renter serve (or name another with --url or {URL_VARIABLE})",
            ) from None
        except httpx.HTTPError as error:
            raise DependencyDown(
                f"The server at {self.url} broke off ({type(error).__name__})",
                "What it did is in the run: see gpu-renter status. Ticking again is safe",
            ) from None
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.is_success and isinstance(content, dict):
            return content
        raise self._error(answer.status_code, content)

    def _error(self, status: int, content: Any) -> RenterError:
        said, remedy = _said(content)
        if not said:
            said = f"{self.url} answered {status} without a reason"
            remedy = "Is it a gpu-renter server?"
        match status:
            case 400 | 413 | 422:
                return InvalidInput("request", said, remedy)
            case 404:
                return NotFound(said, remedy)
            case 409:
                return LeaseHeld(said, remedy) if "tick" in said else Conflict(said, remedy)
            case 429 | 502 | 503 | 504:
                return DependencyDown(said, remedy)
            case _:
                return RenterError(said, remedy)


def _said(content: Any) -> tuple[str, str]:
    """The sentence in an error answer, and its remedy."""
    if not isinstance(content, dict):
        return "", ""
    error = content.get("error", content.get("detail"))
    if isinstance(error, dict):
        return str(error.get("message", "")), str(error.get("remedy", ""))
    return (error if isinstance(error, str) else ""), str(content.get("remedy") or "")
