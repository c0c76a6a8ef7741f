"""API keys: no route without one, none beyond its scopes, and nobody's runs but one's own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from domain.errors import ConfigError, InvalidInput, NotFound, StoreDown
from ledger.keys import Keys
from ledger.store import Store
from server.access import (
    EVERYBODYS,
    NEEDS,
    SIGNED_OTHERWISE,
    Scope,
    Unauthorized,
    check_exposure,
    keys_required,
    new_key,
    principal_with,
)
from server.app import create_app
from server.config.settings import Settings
from server.middleware.authenticate import is_guarded
from server.terminal.client import ServerClient
from server.wiring import Services, now
from tests.server.conftest import failing, opening, serving
from tests.server.exposed import exposed
from tests.support.stack import FreshDatabase


def _routes(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield from ((method, route.path) for method in route.methods or ())
        yield from _routes(list(getattr(route, "routes", None) or []))


def _openapi_routes(app: FastAPI) -> set[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, item in paths.items() for method in item}


async def test_every_address_of_the_api_says_what_it_needs(services: Services) -> None:
    app = create_app(opening(services))
    found = {*_openapi_routes(app), *_routes(app.routes)}
    paths = {path for _, path in found if is_guarded(path)}

    assert {"/api/agent-start", "/api/agent-events", "/metrics"} <= paths
    assert paths <= NEEDS.keys() | SIGNED_OTHERWISE


async def test_without_a_key_nothing_under_the_api_answers(services: Services) -> None:
    async with exposed(services, rate_limit_anonymous_per_minute=1000) as server:
        asked = sorted(_openapi_routes(server.app))
        answers = {
            (method, path): await server.http.request(method, path, json={"runId": "r"})
            for method, path in asked
            if is_guarded(path) and path not in SIGNED_OTHERWISE
        }
        unknown = await server.http.get("/api/nothing")
        health = [await server.http.get(path) for path in ("/healthz", "/readyz")]

    assert len(answers) >= 8
    assert {answer.status_code for answer in answers.values()} == {401}
    assert unknown.status_code == 401
    refused = answers["POST", "/api/agent-start"]
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert "gpu-renter keys create" in refused.json()["error"]
    assert [answer.status_code for answer in health] == [200, 200]


@pytest.mark.parametrize("path", sorted(NEEDS))
async def test_a_key_without_the_scope_is_refused(services: Services, path: str) -> None:
    async with exposed(services) as server:
        for missing in sorted(NEEDS[path]):
            others = frozenset(Scope) - {missing, Scope.ADMIN}
            api = server.with_key(await server.key("u1", *others))
            answers = [await api.http.get(path), await api.http.post(path, json={})]

            assert [answer.status_code for answer in answers] == [403, 403]
            assert f"lacks the scope {missing}" in answers[0].json()["error"]


async def test_an_address_that_nobody_declared_takes_an_admin(services: Services) -> None:
    async with exposed(services) as server:
        someone = server.with_key(await server.key("u1"))
        admin = server.with_key(await server.key(None, Scope.ADMIN))

        assert (await someone.http.get("/api/undeclared")).status_code == 403
        assert (await admin.http.get("/api/undeclared")).status_code == 404


async def test_with_its_key_an_owner_rents_and_sees_the_run(services: Services) -> None:
    async with exposed(services) as server:
        api = server.with_key(await server.key("u1"))
        run = await api.start()
        await api.message(run["_id"])

        assert (await api.status(run["_id"]))["run"]["userId"] == "u1"
        assert [r["_id"] for r in (await api.http.get("/api/runs")).json()["runs"]] == [run["_id"]]


async def test_anothers_run_is_as_if_it_were_not_there(services: Services) -> None:
    async with exposed(services) as server:
        run_id = (await server.with_key(await server.key("u1")).start())["_id"]
        thief = server.with_key(await server.key("u2"))
        before = await services.deps.ledger.runs.get(run_id)
        body = {"runId": run_id}
        answers = [
            await thief.tick(run_id),
            await thief.http.post("/api/agent-cancel", json=body),
            await thief.http.post(
                "/api/agent-approve", json={**body, "approvalId": "apr_1", "approve": True}
            ),
            await thief.http.get("/api/agent-status", params=body),
            await thief.http.get("/api/agent-events", params=body),
            await thief.http.get("/api/agent-artifact", params=body),
        ]
        missing = await thief.http.get("/api/agent-status", params={"runId": "f" * 24})
        listed = await thief.http.get("/api/runs")
        asked = await thief.http.get("/api/runs", params={"userId": "u1"})

    assert [answer.status_code for answer in answers] == [404] * 6
    said = answers[0].json()["error"].replace(run_id, "f" * 24)
    assert missing.json()["error"] == said
    assert {answer.json()["error"] for answer in answers} == {answers[0].json()["error"]}
    assert listed.json() == {"runs": []}
    assert asked.status_code == 403
    assert await services.deps.ledger.runs.get(run_id) == before


async def test_a_run_cannot_be_started_in_anothers_name(services: Services) -> None:
    async with exposed(services) as server:
        api = server.with_key(await server.key("u1"))
        body = {"userId": "u2", "goal": "Train on an A100", "budgetTotal": 5}
        answer = await api.http.post("/api/agent-start", json=body)

    assert answer.status_code == 403
    assert answer.json()["error"].startswith("userId: this API key speaks for another user")
    assert await services.deps.ledger.runs.recent() == []


async def test_a_keys_owner_need_not_be_named(services: Services) -> None:
    async with exposed(services) as server:
        owner = server.with_key(await server.key("u1"))
        admin = server.with_key(await server.key(None, Scope.ADMIN))
        start = {"goal": "Train on an A100", "budgetTotal": 5}
        talk = {"message": "list my runs"}
        accept = {"Accept": "application/json"}
        started = await owner.http.post("/api/agent-start", json=start)
        said = await owner.http.post("/api/chat", json=talk, headers=accept)
        nobodys = [
            await admin.http.post("/api/agent-start", json=start),
            await admin.http.post("/api/chat", json=talk),
        ]
        runs = await services.deps.ledger.runs.recent()

    assert started.json()["userId"] == "u1"
    assert started.json()["_id"] in said.json()["text"]
    assert [answer.status_code for answer in nobodys] == [422, 422]
    assert nobodys[0].json()["error"].startswith("userId: it is missing. Give text")
    assert [run.user_id for run in runs] == ["u1"]


@pytest.mark.parametrize(
    ("owner", "scope", "user", "whose"),
    [
        ("u1", Scope.START, None, "u1"),
        ("u1", Scope.START, "u1", "u1"),
        (None, Scope.ADMIN, None, "cli"),
        (None, Scope.ADMIN, "u2", "u2"),
    ],
)
async def test_a_command_starts_the_run_of_the_keys_owner(
    services: Services, owner: str | None, scope: Scope, user: str | None, whose: str
) -> None:
    async with exposed(services) as server:
        client = ServerClient("http://api")
        client._http = server.with_key(await server.key(owner, scope)).http
        started = await client.start(user, "Train on an A100", 5)

    assert started["userId"] == whose


async def test_a_command_talks_as_the_keys_owner(services: Services) -> None:
    async with exposed(services) as server:
        client = ServerClient("http://api")
        for owner in ("u1", None):
            key = await server.key(owner, *([] if owner else [Scope.ADMIN]))
            client._http = server.with_key(key).http
            said = [kind async for kind, _, _ in client.chat(None, "Train on an A100 for $5")]
            assert said[0] == "run"
        runs = await services.deps.ledger.runs.recent()

    assert {run.user_id for run in runs} == {"u1", "cli"}


async def test_a_key_that_nobody_asked_for_does_not_hide_who_asks(services: Services) -> None:
    async with serving(create_app(opening(services))) as api:
        api.http.headers["Authorization"] = "Bearer gr_old"
        client = ServerClient("http://api")
        client._http = api.http
        assert (await client.start(None, "Train on an A100", 5))["userId"] == "cli"


async def test_an_admin_without_an_owner_reaches_all_runs(services: Services) -> None:
    async with exposed(services) as server:
        run_id = (await server.with_key(await server.key("u1")).start())["_id"]
        admin = server.with_key(await server.key(None, Scope.ADMIN))

        assert (await admin.status(run_id))["run"]["_id"] == run_id
        assert len((await admin.http.get("/api/runs")).json()["runs"]) == 1


async def test_a_revoked_key_is_refused_from_the_next_request_on(services: Services) -> None:
    async with exposed(services) as server:
        key = await server.key("u1")
        api = server.with_key(key)
        before = await api.http.get("/api/runs")
        await services.deps.ledger.keys.revoke(key.record.id, now())
        after = await api.http.get("/api/runs")

    assert (before.status_code, after.status_code) == (200, 401)


async def test_what_is_about_everybodys_money_takes_a_key_for_everybody(
    services: Services,
) -> None:
    read, admin = (Scope.READ,), (Scope.ADMIN,)
    asked = {
        "/metrics": ("GET", read),
        "/api/wallet": ("GET", read),
        "/api/reconcile": ("POST", admin),
        "/api/doctor": ("POST", admin),
    }
    assert asked.keys() == EVERYBODYS
    async with exposed(services) as server:
        for path, (method, scopes) in asked.items():
            body: dict[str, str] | None = {} if method == "POST" else None
            one = server.with_key(await server.key("u1", *scopes))
            refused = await one.http.request(method, path, json=body)
            all_ = server.with_key(await server.key(None, *scopes))
            answer = await all_.http.request(method, path, json=body, timeout=60)

            assert (refused.status_code, answer.status_code) == (403, 200), path
            assert f"--scope {scopes[0]}" in refused.json()["error"]


async def test_the_database_holds_nothing_that_opens_the_door(services: Services) -> None:
    async with exposed(services) as server:
        key = await server.key("u1")
        document = await services.deps.ledger.keys.documents.get(key.record.id)

    assert document is not None
    secret = key.secret.removeprefix(f"gr_{key.record.id}_")
    assert len(secret) >= 32
    assert secret not in str(document)
    assert key.secret not in repr(key.record)


@pytest.mark.parametrize("change", ["", "x", "gr_aaaaaaaaaaaa_" + "A" * 43, "Bearer", "\u00e9"])
async def test_what_is_no_key_is_refused_in_the_same_words(
    database: FreshDatabase, change: str
) -> None:
    store = Store.open(database.uri, database.name)
    try:
        with pytest.raises(Unauthorized) as refused:
            await principal_with(Keys(store), change)
    finally:
        await store.close()
    assert "KEY; gpu-renter keys create" in refused.value.remedy


async def test_a_key_with_another_secret_is_refused(services: Services) -> None:
    keys = services.deps.ledger.keys
    key, other = new_key("u1", {Scope.READ}, now()), new_key("u1", {Scope.READ}, now())
    await keys.add(key.record)
    forged = key.secret[:16] + other.secret[16:]

    with pytest.raises(Unauthorized):
        await principal_with(keys, forged)
    assert (await principal_with(keys, key.secret)).owner == "u1"


async def test_revoking_what_is_not_there_says_so(services: Services) -> None:
    with pytest.raises(NotFound):
        await services.deps.ledger.keys.revoke("nothing", now())


def test_a_key_that_acts_has_to_speak_for_somebody() -> None:
    for scopes in ({Scope.START}, {Scope.READ, Scope.TICK}, {Scope.APPROVE}):
        with pytest.raises(InvalidInput, match="--owner"):
            new_key(None, scopes, now())
    assert new_key(None, {Scope.ADMIN}, now()).record.owner is None
    assert new_key(None, {Scope.READ}, now()).record.owner is None


@pytest.mark.parametrize(
    ("host", "required"),
    [
        *(("127.0.0.1", False), ("localhost", False), ("::1", False), ("127.8.8.8", False)),
        *(("0.0.0.0", True), ("::", True), ("10.0.0.5", True), ("gpu.example", True)),
    ],
)
def test_keys_are_required_as_soon_as_others_reach_the_address(host: str, required: bool) -> None:
    assert keys_required(Settings(host=host)) is required
    assert keys_required(Settings(host=host, api_keys="required"))


async def test_a_server_that_others_reach_does_not_start_without_a_key(services: Services) -> None:
    keys = services.deps.ledger.keys
    public = services.settings.completed(host="0.0.0.0")

    with pytest.raises(ConfigError, match=r"HOST: others reach 0\.0\.0\.0.* keys create"):
        await check_exposure(public, keys)
    key = new_key("u1", {Scope.READ}, now())
    await keys.add(key.record)
    await check_exposure(public, keys)
    await keys.revoke(key.record.id, now())
    with pytest.raises(ConfigError):
        await check_exposure(public, keys)
    await check_exposure(services.settings, keys)


async def test_without_keys_a_name_of_elsewhere_is_not_answered(services: Services) -> None:
    """As a web page can have a browser ask, by pointing its own name here (DNS rebinding)."""
    async with serving(create_app(opening(services), services.settings)) as api:
        hosts = ["evil.example", "evil.example:3000", "93.184.215.14", "[2001:db8::1]:3000"]
        refused = [await api.http.get("/api/runs", headers={"host": host}) for host in hosts]
        ours = ["127.0.0.1:3000", "localhost:3000", "[::1]:3000", "gpu.localhost", "server"]
        taken = [await api.http.get("/api/runs", headers={"host": host}) for host in ours]

    assert [answer.status_code for answer in refused] == [421] * len(hosts)
    assert [answer.status_code for answer in taken] == [200] * len(ours)


async def test_a_socket_that_others_reach_takes_keys_whatever_the_setting_says(
    services: Services,
) -> None:
    """`uvicorn server.app:app --host 0.0.0.0` knows nothing of HOST."""
    app = create_app(opening(services), services.settings)
    async with serving(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.5") as http:
            answer = await http.get("/api/runs")

    assert answer.status_code == 401


async def test_a_prefix_of_a_proxy_opens_no_side_door(services: Services) -> None:
    async with exposed(services) as server:
        transport = httpx.ASGITransport(server.app, root_path="/gpu")
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            paths = ["/gpu/api/runs", "/api/runs", "//api/runs", "/api/../api/runs", "/API/runs"]
            answers = [await http.get(path) for path in paths]

    assert {answer.status_code for answer in answers} <= {401, 404}
    assert answers[0].status_code == 401


async def test_while_the_services_are_away_no_key_gets_in() -> None:
    app = create_app(failing(StoreDown("MongoDB is away")), Settings(api_keys="required"))
    async with serving(app) as away:
        answer = await away.http.get("/api/runs", headers={"authorization": "Bearer gr_x"})

    assert answer.status_code == 503
