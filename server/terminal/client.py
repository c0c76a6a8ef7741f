"""A running server, as the commands reach it: its HTTP API, with its errors as ours."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from dotenv import dotenv_values
from httpx_sse import aconnect_sse

from domain.errors import (
    GOAL_NOT_ALL_USED,
    RUN_BUSY,
    Conflict,
    DependencyDown,
    InvalidInput,
    LeaseHeld,
    NotAllUsed,
    NotFound,
    RenterError,
)
from domain.ids import MOST_MATCHES, is_short, the_one

URL_VARIABLE: Final = "GPU_RENTER_URL"
KEY_VARIABLE: Final = "RENTER_API_KEY"
PORT_VARIABLE: Final = "PORT"
DEFAULT_PORT: Final = "3000"
TIMEOUT_S: Final = 120.0
"""A tick may wait for vendors, the chain and a model."""
CONNECT_TIMEOUT_S: Final = 5.0
_OPTIONS: Final = {"budgetTotal": "--budget", "userId": "--user"}
"""The API's fields that are options here."""
SAY_YES: Final = "Take it out of the goal; or, to start all the same: --yes"
SOMEBODY: Final = "cli"
"""The user of runs where neither the caller nor an API key names one."""


_FILE_NAME: Final = re.compile(r'filename="([A-Za-z0-9_-][A-Za-z0-9._-]{0,199})"', re.ASCII)
"""A name that stays in the folder that it is written into, and hides nothing there."""
T = TypeVar("T")


class Unnamed(InvalidInput):
    """The server needs to be told whose request this is."""


class ServerClient:
    """`async with ServerClient(url) as server: await server.tick(run_id)`.

    Every call raises DependencyDown where no server answers, InvalidInput, NotFound, LeaseHeld,
    Conflict, or RenterError with what the server said.
    """

    def __init__(
        self, url: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """transport: instead of the network."""
        self.url = (url or server_url()).rstrip("/")
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InvalidInput("--url", f"{self.url!r} is not an http(s) address")
        # A proxy of the environment is for the world outside, not for this machine.
        outside = address.hostname not in ("127.0.0.1", "localhost", "::1")
        timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._http = httpx.AsyncClient(
            timeout=timeout, trust_env=outside, headers=_key_header(), transport=transport
        )

    async def start(
        self,
        user_id: str | None,
        goal: str,
        budget_dollars: float,
        *,
        accept_not_used: bool = False,
    ) -> dict[str, Any]:
        """user_id: None for the API key's owner, or SOMEBODY where there is none.

        accept_not_used: to what the goal names and the run leaves out; raises NotAllUsed without.
        """
        body: dict[str, Any] = {"goal": goal, "budgetTotal": budget_dollars}
        body |= {"acceptNotUsed": True} if accept_not_used else {}
        try:
            return await self._call("POST", "/api/agent-start", self._named(user_id) | body)
        except Unnamed:
            return await self._call("POST", "/api/agent-start", {"userId": SOMEBODY, **body})

    async def answers(self) -> bool:
        """Whether a server of ours answers. The question does not show it the API key."""
        asking = self._http.build_request("GET", self.url + "/healthz", timeout=CONNECT_TIMEOUT_S)
        asking.headers.pop("Authorization", None)
        try:
            answer = await self._http.send(asking)
        except httpx.HTTPError:
            return False
        return answer.is_success and _json(answer) == {"status": "ok"}

    async def whole_id(self, given: str) -> str:
        """The id of the run that `given` is, or begins. Raises InvalidInput where several begin
        with it.
        """
        if not is_short(given):
            return given
        params = {"idPrefix": given, "limit": str(MOST_MATCHES)}
        try:
            found = (await self._call("GET", "/api/runs", params=params))["runs"]
        except InvalidInput as unusable:
            if unusable.field == KEY_VARIABLE:
                raise
            return given  # no match: the server says so
        return the_one(given, [str(run["_id"]) for run in found])

    async def tick(self, run_id: str) -> dict[str, Any]:
        return await self._call("POST", "/api/agent-tick", {"runId": run_id})

    async def status(self, run_id: str) -> dict[str, Any]:
        return await self._call("GET", "/api/agent-status", params={"runId": run_id})

    async def runs(self, user_id: str | None, limit: int) -> list[dict[str, Any]]:
        params = {"limit": str(limit), **({"userId": user_id} if user_id else {})}
        return list((await self._call("GET", "/api/runs", params=params))["runs"])

    async def cancel(self, run_id: str, reason: str) -> dict[str, Any]:
        return await self._call("POST", "/api/agent-cancel", {"runId": run_id, "reason": reason})

    async def approve(self, run_id: str, approval_id: str, yes: bool) -> dict[str, Any]:
        body = {"runId": run_id, "approvalId": approval_id, "approve": yes}
        return await self._call("POST", "/api/agent-approve", body)

    async def ask(self, path: str, **params: str) -> dict[str, Any]:
        """What a GET of `path` answers."""
        return await self._call("GET", path, params=params)

    async def order(self, path: str, **fields: Any) -> dict[str, Any]:
        """What a POST of `fields` to `path` answers."""
        return await self._call("POST", path, fields)

    @asynccontextmanager
    async def artifact(self, run_id: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """A run's artifact on its way here: its name, and its bytes, piece by piece."""
        try:
            async with self._http.stream(
                "GET", self.url + "/api/agent-artifact", params={"runId": run_id}
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise self._error(answer.status_code, _json(answer))
                named = _FILE_NAME.search(answer.headers.get("content-disposition", ""))
                yield named[1] if named else "artifact", answer.aiter_bytes()
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None

    async def chat(
        self, user_id: str | None, message: str, run_id: str | None = None
    ) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
        """The agent's answer as it comes: (kind, text, data) of each piece.

        user_id: as of `start`.
        """
        body = {"message": message, **({"runId": run_id} if run_id else {})}
        try:
            async for piece in self._chat(self._named(user_id) | body):
                yield piece
        except Unnamed:
            async for piece in self._chat({"userId": SOMEBODY, **body}):
                yield piece

    async def _chat(self, body: dict[str, Any]) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
        try:
            async with aconnect_sse(self._http, "POST", self.url + "/api/chat", json=body) as said:
                if not said.response.is_success:
                    await said.response.aread()
                    raise self._error(said.response.status_code, _json(said.response))
                async for event in said.aiter_sse():
                    if event.event != "end":
                        piece = event.json()
                        yield event.event, str(piece["text"]), dict(piece["data"])
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None
        content = _json(answer)
        if answer.is_success and isinstance(content, dict):
            return content
        raise self._error(answer.status_code, content)

    def _named(self, user_id: str | None) -> dict[str, Any]:
        """What says whose request it is; nothing where a key may say it."""
        if user_id is None and "Authorization" not in self._http.headers:
            user_id = SOMEBODY
        return {} if user_id is None else {"userId": user_id}

    def _no_answer(self, error: httpx.HTTPError) -> DependencyDown:
        if isinstance(error, httpx.ConnectError):
            return DependencyDown(
                f"There is no server at {self.url}",
                f"Run: gpu-renter serve (or name another with --url or {URL_VARIABLE})",
            )
        return DependencyDown(
            f"The server at {self.url} broke off ({type(error).__name__})",
            "What it did is in the run: see gpu-renter status. Ticking again is safe",
        )

    def _no_key(self) -> InvalidInput:
        """That the key is missing or no good, to somebody at a terminal."""
        from server.access import MAKE_A_KEY  # with all of the server's own: only where it is said

        why = "none is set"
        if "Authorization" in self._http.headers:
            why = "the one that is set is not known there, or was revoked"
        return InvalidInput(
            KEY_VARIABLE,
            f"the server at {self.url} asks for an API key, and {why}",
            f"Set {KEY_VARIABLE} to one, in the environment or .env. Where the server runs, this "
            f"makes one: {MAKE_A_KEY}",
        )

    def _error(self, status: int, content: Any) -> RenterError:
        said = _said(content) or (
            f"{self.url} answered {status} without a reason. Is it a gpu-renter server?"
        )
        told = content if isinstance(content, dict) else {}
        code, field = told.get("code"), str(told.get("field") or "request")
        match status:
            case 422 if (field, code) == ("userId", "missing"):
                return Unnamed("request", said)
            case 400 | 413 | 422:
                return InvalidInput(_OPTIONS.get(field, field), said.removeprefix(f"{field}: "))
            case 401:
                return self._no_key()
            case 403:
                return InvalidInput(KEY_VARIABLE, said)
            case 404:
                return NotFound(said)
            case 409:
                if code == GOAL_NOT_ALL_USED:
                    return NotAllUsed([str(word) for word in told["notUsed"]], SAY_YES)
                busy = code == RUN_BUSY
                return LeaseHeld(said) if busy else Conflict(said)
            case 429 | 502 | 503 | 504:
                return DependencyDown(said)
            case _:
                return RenterError(said)


async def through_server(url: str | None, ask: Callable[[ServerClient], Awaitable[T]]) -> T | None:
    """What `ask` gets of the server, or None where none runs, and the store is to be opened here.

    url: as it was given; a server that somebody named has to be there. Raises what its calls do.
    """
    async with ServerClient(url) as server:
        if url is None and not await server.answers():
            return None
        return await ask(server)


def server_url() -> str:
    """The server that GPU_RENTER_URL names, else the one that `serve` with our PORT would be."""
    if url := _configured(URL_VARIABLE):
        return url
    port = _configured(PORT_VARIABLE)
    return f"http://127.0.0.1:{port if port.isdecimal() and int(port) else DEFAULT_PORT}"


def _key_header() -> dict[str, str]:
    """The API key of RENTER_API_KEY, if there is one."""
    key = _configured(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _configured(name: str) -> str:
    """A variable of the environment, or else of .env; empty where neither has it.

    Not `Settings`: they take long to load, and no other of them has to be right to ask a server.
    """
    return (
        os.environ.get(name) or dotenv_values(".env", interpolate=False).get(name) or ""
    ).strip()


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _said(content: Any) -> str:
    """The sentence in an error answer, which says what to do about it too."""
    said = content.get("error") if isinstance(content, dict) else None
    return said if isinstance(said, str) else ""
