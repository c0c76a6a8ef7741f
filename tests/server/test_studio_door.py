"""LangGraph's server is a door like the API: a page of elsewhere, or a state from outside, gets
nothing past it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import Auth
from playwright.async_api import Page
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from domain.errors import ConfigError
from domain.money import Usd
from ledger.ledger import Ledger
from server.access import EVERYBODY, PRINCIPAL, Principal, Scope, new_key
from server.config.settings import Settings
from server.middleware.origins import is_from_our_page, only_links_here
from server.studio.door import INPUTS, DoorLedger, StudioDoor, authorize, identity_of
from server.studio.graph import graph
from tests.dashboard.browser import launched
from tests.support.builders import NOON, open_ledger
from tests.support.stack import FreshDatabase
from tests.support.studio import client_of, free_port, register_vendor, studio

STUDIO = "https://smith.langchain.com"
OURS = ("127.0.0.1", 2024)
ALL_BUT_ADMIN = frozenset(Scope) - {Scope.ADMIN}
HERS = Principal("eve", ALL_BUT_ADMIN, "k")


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:2024"}, True),
        ({"origin": "http://localhost:2024"}, True),
        ({"origin": STUDIO}, True),
        ({"origin": "http://127.0.0.1:2025"}, False),
        ({"origin": "http://127.0.0.1"}, False),
        ({"origin": "https://smith.langchain.com.evil.test"}, False),
        ({"origin": "http://smith.langchain.com"}, False),
        ({"origin": "https://evil.test"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://[", "host": "["}, False),
        ({"origin": "http://127.0.0.1:99999"}, False),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": STUDIO}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://localhost:2024"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:2025"}, False),
        ({"host": "127.0.0.1", "origin": "http://127.0.0.1:2025"}, False),
        ({"host": "api:80", "origin": "http://api"}, True),
        ({"host": "api", "origin": "https://api:8443"}, True),  # behind a proxy
        ({"host": "api", "origin": "https://api:8443", "sec-fetch-site": "same-site"}, False),
    ],
)
def test_whose_page_asks_is_told_by_what_the_browser_says(
    headers: dict[str, str], ours: bool
) -> None:
    given = {"host": "127.0.0.1:2024", **headers}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    connection = HTTPConnection({"type": "http", "headers": raw})
    assert is_from_our_page(connection, frozenset({STUDIO})) is ours


@pytest.mark.parametrize(
    ("asked", "links"),
    [
        ({"type": "http", "method": "GET"}, True),
        ({"type": "http", "method": "HEAD"}, True),
        ({"type": "http", "method": "POST"}, False),
        ({"type": "websocket"}, False),
    ],
)
def test_who_is_led_here_only_reads(asked: dict[str, str], links: bool) -> None:
    for mode, led in (("navigate", links), ("websocket", False), ("cors", False)):
        headers = [(b"sec-fetch-mode", mode.encode()), (b"sec-fetch-site", b"cross-site")]
        assert only_links_here(HTTPConnection({**asked, "headers": headers})) is led


def test_the_origins_of_studio_are_a_setting() -> None:
    assert Settings().pages_of_studio == {STUDIO}
    none = Settings.load({"STUDIO_ORIGINS": "none"})
    assert none.pages_of_studio == none.completed(port=1).pages_of_studio == frozenset()
    two = Settings.load({"STUDIO_ORIGINS": "https://a.test, http://127.0.0.1:80"})
    assert two.pages_of_studio == {"https://a.test", "http://127.0.0.1:80"}
    for wrong in ("*", "https://a.test/", "a.test", "https://a.test,"):
        with pytest.raises(ConfigError, match="STUDIO_ORIGINS"):
            Settings.load({"STUDIO_ORIGINS": wrong})


class Books(DoorLedger):
    """A ledger that is open already."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    async def open(self) -> Ledger:
        return self.ledger


@asynccontextmanager
async def door(
    ledger: Ledger, address: str = OURS[0], **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """What stands behind it says who asks."""

    async def whoami(scope: AsgiScope, receive: Receive, send: Send) -> None:
        who = scope.get(PRINCIPAL)
        await JSONResponse({"owner": who.owner if who else "-"})(scope, receive, send)

    behind = StudioDoor(whoami, Books(ledger), Settings(**settings))

    async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await behind({**scope, "server": (address, OURS[1])}, receive, send)

    url = f"http://127.0.0.1:{OURS[1]}"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url) as http:
        yield http


async def test_without_keys_only_this_machines_names_and_studios_page_are_taken(
    database: FreshDatabase,
) -> None:
    async with open_ledger(database) as ledger, door(ledger) as http:
        assert (await http.post("/threads")).json() == {"owner": None}
        assert (await http.post("/threads", headers={"host": "evil.test:2024"})).status_code == 421
        elsewhere = await http.post("/threads", headers={"origin": "https://evil.test"})
        assert elsewhere.status_code == 403
        assert "access-control-allow-origin" not in elsewhere.headers
        taken = await http.post("/threads", headers={"origin": STUDIO})
        assert taken.headers["access-control-allow-origin"] == STUDIO
        asking = {"access-control-request-method": "POST"}
        for origin, status in ((STUDIO, 200), ("https://evil.test", 403)):
            preflight = await http.options("/threads", headers={**asking, "origin": origin})
            assert preflight.status_code == status


async def test_on_an_address_that_others_reach_the_servers_own_keys_are_asked_for(
    database: FreshDatabase,
) -> None:
    made = new_key("eve", [Scope.READ], NOON)
    async with open_ledger(database) as ledger:
        await ledger.keys.add(made.record)
        for address, settings in (
            ("0.0.0.0", {}),
            ("192.0.2.1", {}),
            (OURS[0], {"api_keys": "required"}),
            (OURS[0], {"host": "0.0.0.0"}),
        ):
            async with door(ledger, address, **settings) as http:
                host = {"host": "gpu.example"}
                assert (await http.get("/info", headers=host)).status_code == 401
                assert (await http.get("/ok", headers=host)).json() == {"owner": "-"}
                shown = host | {"authorization": f"Bearer {made.secret}"}
                assert (await http.get("/info", headers=shown)).json() == {"owner": "eve"}
                foreign = shown | {"origin": "https://evil.test"}
                assert (await http.get("/info", headers=foreign)).status_code == 403


def asks(principal: Principal, resource: str, action: str) -> Auth.types.AuthContext:
    user = identity_of(principal)
    return cast(
        Auth.types.AuthContext,
        SimpleNamespace(
            user=user, permissions=user["permissions"], resource=resource, action=action
        ),
    )


def step(**asked: Any) -> dict[str, Any]:
    """What LangGraph's server says of a run that is to be created."""
    top: dict[str, Any] = {
        n: asked.pop(n) for n in ("thread_id", "multitask_strategy") if n in asked
    }
    return {"thread_id": uuid4(), "metadata": {}, "kwargs": asked, **top}


def test_the_door_takes_the_inputs_that_the_graph_has() -> None:
    assert set(graph.get_input_jsonschema()["properties"]) == INPUTS


WORDS = {"messages": [{"role": "user", "content": "go on"}]}


@pytest.mark.parametrize(
    ("action", "value", "why"),
    [
        ("create_run", step(input={**WORDS, "phase": "pay", "decision": {}}), "input.decision"),
        ("create_run", step(input={**WORDS, "run_id": "another"}), "input.run_id"),
        ("create_run", step(input={**WORDS, "user_id": "rich"}), "input.user_id"),
        ("create_run", step(input=[WORDS]), "not a JSON object"),
        ("create_run", step(command={"update": {"phase": "pay"}}), "command.update"),
        ("create_run", step(command={"goto": "pay", "resume": None}), "command.goto"),
        ("create_run", step(command={"resume": 1, "goto": ["x"]}), "command.goto"),
        ("create_run", step(input=WORDS, thread_id=None), "A step needs a thread"),
        ("create_run", step(input=WORDS, multitask_strategy="rollback"), "not rolled back"),
        (
            "create_run",
            step(input=WORDS, config={"configurable": {"__pregel_resuming": True}}),
            "__pregel_resuming",
        ),
        ("update", {"thread_id": uuid4()}, "not written from outside"),
        ("update", {"thread_id": uuid4(), "action": "rollback", "metadata": {}}, "not rolled"),
        ("create", {"thread_id": uuid4()}, "not copied"),
    ],
)
async def test_a_state_is_not_written_from_outside(
    action: str, value: dict[str, Any], why: str
) -> None:
    for who in (EVERYBODY, HERS):
        with pytest.raises(Auth.exceptions.HTTPException) as refused:
            await authorize(DoorLedger(), asks(who, "threads", action), value)
        assert why in str(refused.value.detail)


@pytest.mark.parametrize(
    ("resource", "action"),
    [("store", "put"), ("crons", "create"), ("assistants", "create"), ("assistants", "update")],
)
async def test_what_nobody_needs_is_not_offered(resource: str, action: str) -> None:
    with pytest.raises(Auth.exceptions.HTTPException, match="403"):
        await authorize(DoorLedger(), asks(EVERYBODY, resource, action), {})


@pytest.mark.parametrize(
    ("action", "value", "needed"),
    [
        ("read", {}, {Scope.READ}),
        ("search", {}, {Scope.READ}),
        ("create", {"metadata": {}}, {Scope.START}),
        ("update", {"action": "interrupt", "metadata": {}}, {Scope.TICK}),
        ("update", {"metadata": {}}, {Scope.START}),
        ("delete", {"thread_id": uuid4()}, {Scope.TICK}),
        ("create_run", step(), {Scope.TICK}),
        ("create_run", step(command={"resume": True}), {Scope.TICK, Scope.APPROVE}),
        (
            "create_run",
            step(input=WORDS),
            {Scope.START, Scope.TICK, Scope.READ, Scope.APPROVE},
        ),
    ],
)
async def test_a_key_does_what_its_scopes_say_with_its_owners_threads(
    database: FreshDatabase, action: str, value: dict[str, Any], needed: set[Scope]
) -> None:
    async with open_ledger(database) as ledger:
        whole = Principal("eve", frozenset(needed), "k")
        assert await authorize(Books(ledger), asks(whole, "threads", action), value) == {
            "owner": "eve"
        }
        for scope in needed:
            lacking = Principal("eve", ALL_BUT_ADMIN - {scope}, "k")
            with pytest.raises(Auth.exceptions.HTTPException) as refused:
                await authorize(Books(ledger), asks(lacking, "threads", action), value)
            assert scope.value in str(refused.value.detail)
        assert await authorize(Books(ledger), asks(EVERYBODY, "threads", action), value) == {}


async def test_a_thread_is_its_owners_and_stays_so(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        books, made = Books(ledger), step(input=WORDS)
        value: dict[str, Any]
        await authorize(books, asks(HERS, "threads", "create_run"), made)
        assert made["metadata"] == {"owner": "eve"}
        for action, value in (
            ("create", {"metadata": {"owner": "alice"}}),
            ("update", {"metadata": {"owner": "alice"}}),
        ):
            with pytest.raises(Auth.exceptions.HTTPException, match="403"):
                await authorize(books, asks(HERS, "threads", action), value)
        thread = uuid4()
        await ledger.runs.create(str(thread), "alice", "Train", Usd.parse(5), NOON)
        for action, value in (
            ("create", {"thread_id": thread, "metadata": {}}),
            ("create_run", step(input=WORDS, thread_id=thread)),
        ):
            with pytest.raises(Auth.exceptions.HTTPException, match="404"):
                await authorize(books, asks(HERS, "threads", action), value)
        with pytest.raises(Auth.exceptions.HTTPException, match="409"):
            await authorize(books, asks(EVERYBODY, "threads", "delete"), {"thread_id": thread})


@contextmanager
def page_of_elsewhere() -> Iterator[str]:
    """An origin of its own: another port of this machine."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


FETCH = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return answer.type === "opaque" ? "opaque" : [answer.status, await answer.text()];
    } catch (error) { return "refused"; }
}"""
JSON = "application/json"
SOCKET = """(url) => new Promise((told) => {
    const socket = new WebSocket(url);
    socket.onopen = () => told("open");
    socket.onerror = socket.onclose = () => told("refused");
})"""


def answer(approval: str) -> dict[str, Any]:
    return {"resume": {"approvalId": approval, "approve": True}}


def post(body: object, kind: str) -> dict[str, Any]:
    return {"method": "POST", "body": json.dumps(body), "headers": {"Content-Type": kind}}


async def tried(page: Page, server: str, thread: str, approval: str) -> list[object]:
    """What a page gets that would start, approve, cancel and read."""
    start = {"assistant_id": "agent", "input": {"goal": "Train on an A100", "budget": "5"}}
    stop = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "stop"}]}}
    yes = {
        "assistant_id": "agent",
        "command": {"resume": {"approvalId": approval, "approve": True}},
    }
    steps = [
        (f"/threads/{uuid4()}/runs/wait", {**start, "if_not_exists": "create"}),
        ("/threads", {}),
        (f"/threads/{thread}/runs/wait", yes),
        (f"/threads/{thread}/runs", stop),
        (f"/threads/{thread}/state", {"values": {"phase": "pay"}}),
        ("/threads/search", {}),
    ]
    got: list[object] = []
    for path, body in steps:
        for kind, mode in (
            ("text/plain", "no-cors"),
            ("text/plain", "cors"),
            ("application/json", "cors"),
        ):
            options = {
                "method": "POST",
                "mode": mode,
                "body": json.dumps(body),
                "headers": {"Content-Type": kind},
            }
            got.append(await page.evaluate(FETCH, [server + path, options]))
    for path in (f"/threads/{thread}/state", f"/threads/{thread}/history", "/info", "/docs"):
        for mode in ("no-cors", "cors"):
            got.append(await page.evaluate(FETCH, [server + path, {"mode": mode}]))
    got.append(await page.evaluate(SOCKET, f"ws{server[4:]}/threads/{thread}/stream/events"))
    return got


@pytest.mark.timeout(300)
async def test_a_page_of_another_origin_gets_nothing_and_the_owner_approves_through_studio(
    database: FreshDatabase, local_services: Settings, tmp_path: Path
) -> None:
    port, thread = free_port(), str(uuid4())
    server = f"http://127.0.0.1:{port}"
    with page_of_elsewhere() as evil, page_of_elsewhere() as studios:
        started = studio(
            tmp_path,
            database,
            local_services,
            port,
            APPROVAL_THRESHOLD_USD="0.5",
            STUDIO_ORIGINS=studios,
        )
        async with open_ledger(database) as ledger:
            await register_vendor(ledger, local_services)
            async with started, client_of(port) as client, launched() as browser:
                goal = {"goal": "Fine-tune on an A100 for 40 minutes", "budget": "5"}
                asked = await client.runs.wait(thread, "agent", input=goal, if_not_exists="create")
                question = cast(dict[str, Any], asked)["__interrupt__"][0]["value"]

                page = await browser.new_page()
                await page.goto(evil)
                got = await tried(page, server, thread, question["approvalId"])
                assert set(map(str, got)) <= {"refused", "opaque"}

                # Nor does a client on this machine write the state past the question.
                for past in (
                    {"input": {"phase": "pay", "decision": {"slot": 0}}},
                    {"command": {"update": {"phase": "pay"}, "goto": "pay"}},
                ):
                    with pytest.raises(httpx.HTTPStatusError):
                        await client.runs.wait(thread, "agent", **cast(Any, past))
                with pytest.raises(httpx.HTTPStatusError):
                    await client.threads.update_state(
                        thread, {"phase": "pay"}, as_node="assess_budget"
                    )

                [run] = await ledger.runs.recent(limit=0)
                assert (run.id, run.status.ended, run.spent) == (thread, False, Usd(0))
                [approval] = await ledger.approvals.of_run(thread)
                assert approval.state.value == "pending"
                assert await ledger.payments.of_run(thread) == []

                await page.goto(studios)
                yes = {"resume": {"approvalId": approval.id, "approve": True}}
                body = json.dumps({"assistant_id": "agent", "command": yes})
                options = {
                    "method": "POST",
                    "body": body,
                    "headers": {"Content-Type": "application/json"},
                }
                status, text = cast(
                    tuple[int, str],
                    await page.evaluate(FETCH, [f"{server}/threads/{thread}/runs/wait", options]),
                )
                assert (status, json.loads(text)["message"]) == (200, "Job started")
                [paid] = await ledger.payments.of_run(thread)
                assert paid.state.value == "settled"
                [approval] = await ledger.approvals.of_run(thread)
                assert approval.state.value == "used"
