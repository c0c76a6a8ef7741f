"""The API as HTTP: addresses, headers, documentation, bodies over a real connection, errors."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pymongo.errors import AutoReconnect, OperationFailure

from domain import errors
from domain.errors import RenterError
from ledger.ledger import Ledger
from ledger.runs import Runs
from ledger.spenders import Spenders
from server.app import create_app
from server.middleware.http_errors import UNEXPECTED, problem_of
from server.terminal.client import ServerClient
from server.wiring import Services
from tests.server.conftest import Api, failing, opening, serving

START = b'{"userId": "u1", "goal": "Train", "budgetTotal": 5}'
JSON = {"content-type": "application/json"}
ASKED = {"200", "400", "401", "403", "421", "422", "429", "503"}
"""What any question under /api/ may be answered with."""
SENT = {"408", "413", "415"}
"""And one with a body."""


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The app in uvicorn, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="on")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
            yield http
        server.should_exit = True
        await task


@pytest.mark.parametrize("path", ["/api", "/api/agent-stop", "/api/agent-start/", "/.env"])
async def test_an_unknown_address_is_not_found(bare: Api, path: str) -> None:
    answer = await bare.http.get(path)

    assert answer.status_code == 404
    assert answer.json() == {"error": "There is nothing at this address. See /docs"}


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("path", ["/nothing", "/vendors/", "/runs/a/b", "/.env", "/%3Cscript%3E"])
async def test_a_browser_gets_a_page_where_nothing_is(bare: Api, path: str) -> None:
    page = await bare.http.get(path, headers=BROWSER)

    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'There is no page at this address.</p>\n<p><a href="/">All runs</a>' in page.text
    assert "<script" not in page.text
    assert (await bare.http.get(path)).json()["error"].startswith("There is nothing")


@pytest.mark.parametrize("path", ["/api", "/api/nothing"])
async def test_a_browser_gets_json_of_the_api_all_the_same(bare: Api, path: str) -> None:
    answer = await bare.http.get(path, headers=BROWSER)

    assert answer.status_code == 404
    assert answer.json() == {"error": "There is nothing at this address. See /docs"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/agent-start", "POST"),
        ("DELETE", "/api/agent-tick", "POST"),
        ("POST", "/api/agent-status", "GET"),
        ("OPTIONS", "/api/agent-start", "POST"),
    ],
)
async def test_a_method_that_an_address_does_not_take_is_named(
    bare: Api, method: str, path: str, allowed: str
) -> None:
    answer = await bare.http.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("path", ["/api/agent-status", "/api/agent-start", "/api/nothing"])
async def test_answers_are_neither_stored_nor_sniffed(bare: Api, path: str) -> None:
    headers = (await bare.http.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


async def test_other_web_pages_are_given_no_access(bare: Api) -> None:
    origin = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    answer = await bare.http.options("/api/agent-start", headers=origin)

    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_schema_that_is_described_is_used(bare: Api) -> None:
    described = (await bare.http.get("/openapi.json")).json()
    whole = json.dumps(described)
    names = described["components"]["schemas"]

    assert not [name for name in names if f'"#/components/schemas/{name}"' not in whole]


async def test_the_documentation_shows_every_address_with_its_errors(bare: Api) -> None:
    described = (await bare.http.get("/openapi.json")).json()
    docs = await bare.http.get("/docs")

    assert docs.status_code == 200
    operations = {
        path: operation for path, item in described["paths"].items() for operation in item.values()
    }
    expected = {
        "/api/agent-start": {*ASKED, *SENT, "409"},
        "/api/agent-tick": {*ASKED, *SENT, "404", "409", "502"},
        "/api/agent-cancel": {*ASKED, *SENT, "404", "409", "502"},
        "/api/agent-approve": {*ASKED, *SENT, "404", "409"},
        "/api/agent-status": {*ASKED, "404"},
        "/api/runs": ASKED,
        "/healthz": {"200"},
        "/metrics": {"200", "401", "403", "421", "429", "503"},
        "/readyz": {"200", "503"},
    }
    assert {path: set(operations[path]["responses"]) for path in expected} == expected
    schemas = described["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    assert schemas["StartRequest"]["examples"]
    assert {"run", "jobs", "payments", "observations", "offers"} <= set(
        schemas["StatusAnswer"]["properties"]
    )


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.InvalidInput("goal", "it is odd"), 400, None),
        (errors.NotFound("There is no such run"), 404, None),
        (errors.LeaseHeld("Another tick works"), 409, "1"),
        (errors.LeaseHeld("The tick's process is gone", goes_on_in_s=12), 409, "12"),
        (errors.LeaseLost("Another tick took over"), 409, "1"),
        (errors.Conflict("It is done"), 409, None),
        (errors.SlotClosed("It is closed"), 409, "1"),
        (errors.VendorUnreachable("v", "quote", "no answer"), 502, None),
        (errors.VendorGarbage("v", "quote", "not JSON"), 502, None),
        (errors.StoreDown("MongoDB did not answer"), 503, "5"),
        (errors.ChainDown("The chain did not answer"), 503, "5"),
        (errors.WalletDown("The wallet did not answer"), 503, "5"),
        (errors.ClockOff("This machine's clock is off"), 503, "5"),
        (errors.ConfigError("NETWORK", "it is odd"), 503, "5"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_each_kind_of_error_has_its_status(
    error: RenterError, status: int, retry_after: str | None
) -> None:
    async with serving(create_app(failing(error))) as api:
        answer = await api.tick("run")

        assert answer.status_code == status
        busy = {"code": "run_busy"} if status == 409 and "tick" in str(error) else {}
        field = {"field": error.field} if isinstance(error, errors.InvalidInput) else {}
        assert answer.json() == {"error": str(error)} | busy | field
        assert answer.headers.get("retry-after") == retry_after
        assert (await api.http.get("/healthz")).json() == {"status": "ok"}
        assert (await api.http.get("/readyz")).status_code == 503


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errors.LeaseHeld("Somebody works on it"), errors.LeaseHeld),
        (errors.LeaseLost("Somebody took over"), errors.LeaseHeld),
        (errors.Conflict("It is a purchase, and has no ticks"), errors.Conflict),
        (errors.NotFound("There is no such run"), errors.NotFound),
        (errors.InvalidInput("goal", "it is odd"), errors.InvalidInput),
        (errors.StoreDown("MongoDB did not answer"), errors.DependencyDown),
    ],
)
def test_the_commands_tell_errors_apart_as_the_server_means_them(
    error: RenterError, told: type[RenterError]
) -> None:
    answer = problem_of(error)
    heard = ServerClient("http://127.0.0.1:1")._error(
        answer.status_code, json.loads(bytes(answer.body))
    )
    assert type(heard) is told
    assert str(error) in str(heard)


class BrokenLedger:
    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def runs(self) -> Runs:
        raise self._error

    @property
    def spenders(self) -> Spenders:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("key 0xsecret"), 500, UNEXPECTED),
        (RenterError("key 0xsecret"), 500, UNEXPECTED),
        (
            AutoReconnect("mongodb://ada:0xsecret@db"),
            503,
            "MongoDB did not answer (AutoReconnect). Check that it runs and that MONGODB_URI is "
            "right; nothing was lost, try again",
        ),
        (
            OperationFailure("auth failed for 0xsecret", 18),
            503,
            "MongoDB refused a command (code 18). See its log, and whether MONGODB_URI's user may "
            "read and write; nothing was lost",
        ),
    ],
)
async def test_a_fault_of_ours_tells_nothing_of_its_inside(
    services: Services, error: Exception, status: int, said: str
) -> None:
    ledger = cast(Ledger, BrokenLedger(error))
    broken = replace(services, deps=replace(services.deps, ledger=ledger))
    async with serving(create_app(opening(broken))) as api:
        answers = [await api.tick("run"), await api.http.get("/api/runs")]

    assert {answer.status_code for answer in answers} == {status}
    assert all(answer.json() == {"error": said} for answer in answers)


async def test_services_that_fail_to_open_unexpectedly_are_down() -> None:
    async with serving(create_app(failing(RuntimeError("key 0xsecret")))) as api:
        answers = [await api.tick("run"), await api.http.get("/readyz")]

    assert {answer.status_code for answer in answers} == {503}
    said = "The services could not be opened (RuntimeError). The server's log says why"
    assert answers[0].json() == {"error": said}
    assert "secret" not in answers[1].text


async def test_what_cannot_be_opened_at_first_is_opened_later(services: Services) -> None:
    attempts: list[int] = []

    @asynccontextmanager
    async def third_time() -> AsyncIterator[Services]:
        attempts.append(1)
        if len(attempts) < 3:
            raise errors.StoreDown("MongoDB did not answer")
        yield services

    async with serving(create_app(third_time)) as api:
        statuses = [(await api.http.get("/api/runs")).status_code for _ in range(4)]

        assert statuses == [503, 503, 200, 200]
        assert (await api.http.get("/readyz")).json() == {
            "ready": True,
            "dependencies": {"mongodb": {"ok": True}, "chain": {"ok": True}},
        }
    assert len(attempts) == 3


async def test_the_services_are_opened_once_and_closed_at_the_end(services: Services) -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def noted() -> AsyncIterator[Services]:
        steps.append("opened")
        yield services
        steps.append("closed")

    async with serving(create_app(noted)) as api:
        await asyncio.gather(*(api.http.get("/api/runs") for _ in range(5)))

    assert steps == ["opened", "closed"]


async def test_the_app_stops_at_once_while_its_services_are_still_being_opened() -> None:
    steps: list[str] = []
    begun = asyncio.Event()

    @asynccontextmanager
    async def never() -> AsyncIterator[Services]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("given up")
        yield cast(Services, None)

    async with serving(create_app(never)) as api:
        assert (await api.http.get("/healthz")).status_code == 200
        await begun.wait()
        waiting = asyncio.create_task(api.http.get("/api/runs"))
        await asyncio.wait([waiting], timeout=0.01)
    answer = await waiting

    assert steps == ["given up"]
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("The server is stopping. ")


async def test_over_a_connection_a_large_body_gets_its_answer(services: Services) -> None:
    async def chunked(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 65536):
            yield b" " * 65536

    async with listening(create_app(opening(services))) as http:
        fine = await http.post("/api/agent-start", content=START, headers=JSON)
        large = {"userId": "u1", "goal": "x" * 10_000_000, "budgetTotal": 5}
        counted = await http.post("/api/agent-start", json=large)
        uncounted = await http.post("/api/agent-start", content=chunked(1_000_000), headers=JSON)
        streamed = await http.post("/api/agent-start", content=_slices(START), headers=JSON)

    assert [r.status_code for r in (fine, counted, uncounted, streamed)] == [200, 413, 413, 200]
    assert counted.json() == uncounted.json()


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for at in range(len(body)):
        yield body[at : at + 1]


async def test_the_libraries_logs_are_kept_quiet(bare: Api) -> None:
    await bare.http.get("/healthz")

    for name in ("httpx", "httpcore", "pymongo"):
        assert not logging.getLogger(f"{name}.command").isEnabledFor(logging.INFO)
