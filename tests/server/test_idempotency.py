"""Idempotency-Key: the same key and body get the same answer, whatever happened in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from domain.errors import StoreDown
from ledger.idempotency import KEPT, Given, Idempotency, KeyBusy, KeyReused, Marker
from ledger.runs import Runs
from ledger.store import Store
from server.app import create_app
from server.middleware.idempotency import REPLAYED
from server.wiring import Services
from tests.server.conftest import Api, opening, serving
from tests.server.exposed import exposed
from tests.support.stack import FreshDatabase

NOW = datetime(2026, 1, 10, 19, 0, tzinfo=UTC)
PATIENCE = timedelta(seconds=30)
BODY = {"userId": "u1", "goal": "Train on an A100", "budgetTotal": 5}


async def start(api: Api, key: str, **changes: Any) -> httpx.Response:
    return await api.http.post(
        "/api/agent-start", json={**BODY, **changes}, headers={"Idempotency-Key": key}
    )


async def runs_of(services: Services) -> int:
    return len(await services.deps.ledger.runs.recent())


async def test_the_same_key_and_body_start_one_run_and_get_one_answer(
    api: Api, services: Services
) -> None:
    first, second = await start(api, "k1"), await start(api, "k1")

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    assert await runs_of(services) == 1


async def test_the_order_of_the_fields_makes_no_other_body(api: Api) -> None:
    first = await start(api, "k1")
    turned = dict(reversed(BODY.items()))
    second = await api.http.post("/api/agent-start", json=turned, headers={"Idempotency-Key": "k1"})

    assert second.json() == first.json()


async def test_the_same_key_with_another_body_is_a_conflict(api: Api, services: Services) -> None:
    await start(api, "k1")
    other = await start(api, "k1", budgetTotal=6)

    assert other.status_code == 409
    assert other.json()["error"].startswith("This Idempotency-Key was used with another body")
    assert "retry-after" not in other.headers, "it is the same for ever"
    assert await runs_of(services) == 1


async def test_another_key_starts_another_run(api: Api, services: Services) -> None:
    assert (await start(api, "k1")).json()["_id"] != (await start(api, "k2")).json()["_id"]
    assert await runs_of(services) == 2


async def test_of_many_at_once_one_starts_the_run(api: Api, services: Services) -> None:
    answers = await asyncio.gather(*(start(api, "k1") for _ in range(10)))

    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({a.json()["_id"] for a in answers if a.status_code == 200}) == 1
    for busy in (a for a in answers if a.status_code == 409):
        assert busy.headers["retry-after"] == "1"
    assert await runs_of(services) == 1


async def test_two_owners_may_use_the_same_key(services: Services) -> None:
    async with exposed(services) as server:
        one = server.with_key(await server.key("u1"))
        two = server.with_key(await server.key("u2"))
        first, second = await start(one, "k1"), await start(two, "k1", userId="u2")

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["_id"] != second.json()["_id"]


async def test_a_refusal_is_repeated_too(api: Api) -> None:
    first, second = await start(api, "k1", goal=""), await start(api, "k1", goal="")

    assert first.status_code == 400
    assert (second.status_code, second.content) == (first.status_code, first.content)


@pytest.mark.parametrize("key", ["x" * 256, "a b"])
async def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    answer = await start(api, key)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Idempotency-Key: ")


async def test_a_failure_is_not_kept_and_its_retry_starts_no_second_run(
    services: Services,
) -> None:
    """The store takes the run and fails to say so: the worst moment."""

    class Lossy(Runs):
        lost = 0

        async def get(self, run_id: str) -> Any:
            if not self.lost:
                self.lost += 1
                raise StoreDown("MongoDB did not answer")
            return await super().get(run_id)

    ledger = replace(services.deps.ledger, runs=Lossy(services.deps.ledger.store))
    broken = replace(services, deps=replace(services.deps, ledger=ledger))
    async with serving(create_app(opening(broken))) as api:
        first, second = await start(api, "k1"), await start(api, "k1")

    assert (first.status_code, second.status_code) == (503, 200)
    assert await runs_of(services) == 1


async def test_an_approval_is_answered_once_and_repeated(api: Api) -> None:
    run = await api.start()
    body = {"runId": run["_id"], "approvalId": "apr_1", "approve": True}
    headers = {"Idempotency-Key": "k1"}
    answers = [
        await api.http.post("/api/agent-approve", json=body, headers=headers) for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[1].headers[REPLAYED] == "true"


@pytest.fixture
async def markers(database: FreshDatabase) -> AsyncIterator[Idempotency]:
    store = Store.open(database.uri, database.name)
    kept = Idempotency(store)
    await kept.ensure_indexes()
    yield kept
    await store.close()


async def begin(markers: Idempotency, at: datetime, body: str = "b") -> Marker:
    begun = await markers.begin("m", body, at, PATIENCE)
    assert isinstance(begun, Marker)
    return begun


async def test_who_died_in_the_middle_is_taken_over_with_the_same_run(
    markers: Idempotency,
) -> None:
    first = await begin(markers, NOW)
    with pytest.raises(KeyBusy):
        await markers.begin("m", "b", NOW + PATIENCE / 2, PATIENCE)
    second = await begin(markers, NOW + PATIENCE)

    assert second.run_id == first.run_id
    assert not await markers.done(first, Given(200, "text/plain", b"late"))
    assert await markers.done(second, Given(200, "text/plain", b"mine"))
    again = await markers.begin("m", "b", NOW + PATIENCE, PATIENCE)
    assert again == Given(200, "text/plain", b"mine")


async def test_a_key_is_free_after_a_day_for_another_run(markers: Idempotency) -> None:
    first = await begin(markers, NOW)
    await markers.done(first, Given(200, "text/plain", b"old"))
    with pytest.raises(KeyReused):
        await markers.begin("m", "other", NOW + KEPT / 2, PATIENCE)
    second = await begin(markers, NOW + KEPT, "other")

    assert second.run_id != first.run_id
