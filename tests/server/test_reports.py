"""What the operator's commands ask of a running server, so that they need not open its store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from langchain_core.messages import AnyMessage
from langchain_core.tools import BaseTool

from domain.tokens import TokenLimits
from graph.goals.reader import ModelReader
from graph.planner.planners import Consult, Decided, RankingPlanner, Situation
from server import cli
from server.access import Scope
from server.commands import audit, doctor, plan, reconcile, registry, wallet
from server.terminal import client
from server.terminal.output import Exit
from server.wiring import Services
from tests.server.conftest import GOAL, Api
from tests.server.exposed import exposed
from tests.server.test_cli_download import ID, reach

PLAN = "Fine-tune Llama 8B on an A100 for about two hours, under $5"


@pytest.fixture
async def reached(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API as the commands reach it. What they cannot do is open a store: none is configured,
    and none runs in this folder.
    """
    reach(api.http._transport, monkeypatch)
    return api


async def test_what_a_server_knows_is_asked_of_it_and_no_store_is_opened(
    reached: Api, services: Services
) -> None:
    run_id = (await reached.start())["_id"]
    await reached.finish(run_id)
    paid = (await reached.status(run_id))["run"]["spent"]

    audited = await audit._audit(run_id[:12], None)
    assert (audited["runId"], audited["whole"]) == (run_id, True)
    assert [e["seq"] for e in audited["entries"]] == list(range(1, len(audited["entries"]) + 1))
    assert audited["entries"][-1]["type"] == "run_completed"

    nothing = reconcile._Word(None, None, None, False, None, "")
    _, report = await reconcile._reconcile(None, nothing, full=True)
    assert (report["networkName"], report["stillOpen"]) == ("local chain", [])
    assert report["ledgerTotalMicros"] == round(paid * 1_000_000)

    vendors = await registry._list(None)
    assert [v["vendorId"] for v in vendors] == ["gpu_vendor_1", "gpu_vendor_2"]
    assert {v["payTo"] for v in vendors} == {
        v.pay_to for v in await services.deps.ledger.vendors.all()
    }

    held = await wallet._show(None, None, None)
    assert (held["address"], held["stakes"]) == (services.deps.wallet.address, "SIMULATION")
    assert held["balanceMicros"] > 0

    checks = [check async for check in doctor._checks(None)]
    assert (checks[0].name, checks[0].state) == ("server", "ok")
    assert {"MongoDB", "chain", "wallet", "vendor gpu_vendor_1", "planner"} <= {
        check.name for check in checks
    }
    assert [check for check in checks if check.state == "wrong"] == []


async def test_a_plan_of_the_server_is_the_one_that_is_made_here(
    reached: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    before = (await reached.http.get("/api/runs")).json()["runs"]
    told = await plan._told(PLAN, None, None)

    assert {o["vendorName"] for o in told["offers"]} == {"FastGPU", "ReliableGPU"}
    assert (told["decision"]["action"], told["paid"]) == ("rent", 0)
    lines = told["text"].splitlines()
    assert lines[-1] == "Nothing was rented or paid."
    assert any(line.startswith("It would pay $") for line in lines)
    assert max(map(len, lines)) <= 100
    assert (await reached.http.get("/api/runs")).json()["runs"] == before


class Asked(RankingPlanner):
    """A planner that asks its meter first, as a model's does."""

    async def next(
        self,
        situation: Situation,
        conversation: Sequence[AnyMessage],
        tools: Sequence[BaseTool],
    ) -> Decided | Consult:
        stop = await situation.meter.begin(1_000)
        decided = await super().next(situation, conversation, tools)
        assert isinstance(decided, Decided)
        reason = replace(decided.decision, reason=stop)
        return replace(decided, decision=reason)


async def test_a_plan_takes_no_more_of_the_model_than_its_user_has(services: Services) -> None:
    never_asked: Any = object()
    deps = replace(
        services.deps,
        reader=ModelReader(never_asked, "a model"),
        planner=Asked(),
        tokens=TokenLimits(a_user_day=10),
    )
    async with exposed(replace(services, deps=deps)) as server:
        api = server.with_key(await server.key("ann"))
        told = (await api.http.post("/api/plan", json={"goal": PLAN})).json()
    assert told["reader"] == "rules"
    for said in (told["note"], told["decision"]["reason"]):
        assert "FIREWORKS_TOKENS_PER_USER_DAY" in said


async def test_the_audit_of_anothers_run_is_not_there(services: Services) -> None:
    async with exposed(services) as server:
        hers = server.with_key(await server.key("ann"))
        his = server.with_key(await server.key("bob"))
        body = {"goal": GOAL, "budgetTotal": 5}
        run = (await hers.http.post("/api/agent-start", json=body)).json()
        answers = [
            await api.http.get("/api/audit", params={"runId": run["_id"]}) for api in (hers, his)
        ]
        listed = await his.http.get("/api/runs", params={"idPrefix": run["_id"][:8]})

    assert [answer.status_code for answer in answers] == [200, 404]
    assert listed.json()["runs"] == []


@pytest.mark.parametrize("path", ["/api/reconcile", "/api/doctor", "/api/plan"])
async def test_no_page_of_elsewhere_can_have_them_do_anything(bare: Api, path: str) -> None:
    """What a browser sends for another page without asking: no body, or a form's text."""
    empty = await bare.http.post(path)
    plain = await bare.http.post(path, content="{}", headers={"Content-Type": "text/plain"})
    assert (empty.status_code, plain.status_code) == (422, 415)


async def test_a_doctor_without_the_servers_leave_looks_by_itself(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exposed(services) as server:
        key = await server.key("u1", Scope.READ)
        monkeypatch.setenv("RENTER_API_KEY", key.secret)
        transport = httpx.ASGITransport(server.app, client=("198.51.100.7", 1))
        reach(transport, monkeypatch)
        found = {check.name: check async for check in doctor._checks(None)}

    assert found["server"].state == "skipped"
    assert "lacks the scope admin" in found["server"].finding
    assert "disk" in found


def _down(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/healthz":
        return httpx.Response(200, json={"status": "ok"})
    return httpx.Response(503, json={"error": "MongoDB does not answer. Wait"})


async def test_a_server_that_cannot_look_is_the_first_thing_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reach(httpx.MockTransport(_down), monkeypatch)
    found = [check async for check in doctor._checks(None)]
    assert (found[0].name, found[0].state) == ("server", "wrong")
    assert "MongoDB does not answer" in found[0].finding
    assert "versions" in {check.name for check in found}


@pytest.mark.parametrize(
    "something",
    [
        httpx.Response(404, text="no such page"),
        httpx.Response(200, text="<html>Welcome</html>"),
        httpx.Response(200, json={"status": "green"}),
    ],
)
async def test_what_is_no_server_of_ours_is_not_asked(
    something: httpx.Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setenv("RENTER_API_KEY", "gr_secret")

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        assert "authorization" not in request.headers
        return something

    reach(httpx.MockTransport(answer), monkeypatch)

    async def ask(server: client.ServerClient) -> dict[str, Any]:
        return await server.ask("/api/vendors")

    assert await client.through_server(None, ask) is None
    assert asked == ["/healthz"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("vendors", "list"),
        ("audit", ID),
        ("reconcile",),
        ("wallet", "show"),
        ("plan", PLAN),
        ("doctor",),
    ],
    ids=lambda a: a[0],
)
def test_a_server_that_somebody_names_has_to_be_there(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*arguments, "--url", "http://127.0.0.1:1"]) == Exit.DOWN
    assert "There is no server at http://127.0.0.1:1" in capsys.readouterr().err


def test_what_a_server_tells_is_printed_for_people_and_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {
        "kind": "cdp",
        "network": "eip155:8453",
        "networkName": "Base",
        "stakes": "LIVE",
        "usdc": "0xusdc",
        "address": "0xpayer",
        "balance": "$1.234567",
        "balanceMicros": 1_234_567,
        "policies": [],
        "problem": "",
    }

    def answer(request: httpx.Request) -> httpx.Response:
        ready = request.url.path == "/healthz"
        return httpx.Response(200, json={"status": "ok"} if ready else held)

    reach(httpx.MockTransport(answer), monkeypatch)

    assert cli.run(["wallet", "show"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "eip155:8453, Base: LIVE" in shown
    assert "balance  $1.23\n" in shown
    assert cli.run(["wallet", "show", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == held
