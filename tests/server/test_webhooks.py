"""Webhooks: signed, at least once, in order within a run, across failures and restarts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from domain.errors import ConfigError
from domain.journal import Note, NoteType
from ledger.deliveries import Deliveries
from ledger.observations import Head, Observations
from ledger.store import Store
from server.config.settings import Settings
from server.webhooks import BACKOFF_S, TYPES, Webhooks, receiver_of
from server.wiring import now
from tests.support.stack import FreshDatabase

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
URL = "http://receiver.test/hook"


@dataclass
class Receiver:
    """Takes webhooks over HTTP that never leaves the process; answers as told, then 200."""

    answers: list[int] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.answers.pop(0) if self.answers else 200
        if status == 0:
            raise httpx.ReadTimeout("silence", request=request)
        return httpx.Response(status)

    @property
    def taken(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]


class Desk:
    """A journal, and who tells of it; `at` is the time."""

    def __init__(self, store: Store, receiver: Receiver) -> None:
        self.at = now()
        self.observations = Observations(store)
        self.store = store
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(receiver))
        self.heads: dict[str, Head] = {}
        self.restart()

    def restart(self) -> None:
        """A new process: nothing but MongoDB stays."""
        self.deliveries = Deliveries(self.store, receiver_of(URL))
        self.webhooks = Webhooks(
            self.observations, self.deliveries, self.http, URL, SECRET, self.time
        )

    def time(self) -> datetime:
        return self.at

    def later(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    async def note(self, run_id: str, type_: str, **data: Any) -> None:
        head = self.heads.get(run_id, Head())
        note = Note(NoteType(type_), f"{type_} happened", data)
        self.heads[run_id] = await self.observations.append(run_id, head, [note], self.at)

    async def tell(self) -> None:
        await self.webhooks.deliver_due()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def desk(database: FreshDatabase, receiver: Receiver) -> AsyncIterator[Desk]:
    store = Store.open(database.uri, database.name)
    desk = Desk(store, receiver)
    await desk.observations.ensure_indexes()
    await desk.deliveries.ensure_indexes()
    await desk.tell()
    desk.later(1)
    yield desk
    await desk.http.aclose()
    await store.close()


async def test_what_happens_is_told_signed_by_the_standard(desk: Desk, receiver: Receiver) -> None:
    await desk.note("r1", "payment_settled", txHash="0xab")
    await desk.tell()

    request, *others = receiver.requests
    assert others == []
    event = Webhook(SECRET).verify(request.content, dict(request.headers))
    assert event["type"] == "payment_settled"
    assert event["data"] == {
        "runId": "r1",
        "seq": 1,
        "content": "payment_settled happened",
        "details": {"txHash": "0xab"},
    }
    forged = Webhook("whsec_" + "A" * 40)
    with pytest.raises(WebhookVerificationError):
        forged.verify(request.content, dict(request.headers))


async def test_it_is_told_once_where_nothing_goes_wrong(desk: Desk, receiver: Receiver) -> None:
    for type_ in ("approval_asked", "payment_settled", "run_completed"):
        await desk.note("r1", type_)
    for _ in range(4):
        await desk.tell()
        desk.restart()
        desk.later(61)

    assert receiver.taken == ["r1:1", "r1:2", "r1:3"]


async def test_what_is_no_news_is_not_told(desk: Desk, receiver: Receiver) -> None:
    await desk.note("r1", "job_log")
    await desk.note("r1", "run_completed")
    await desk.note("r1", "job_log")
    await desk.tell()

    assert receiver.taken == ["r1:2"]
    assert "job_log" not in TYPES


async def test_a_failure_is_tried_again_later_and_nothing_overtakes_it(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.answers = [500, 0, 302]
    await desk.note("r1", "payment_settled")
    await desk.note("r1", "run_completed")
    for wait in (0, *BACKOFF_S[:3]):
        await desk.tell()
        desk.restart()
        await desk.tell()  # too early: nothing is due
        desk.later(wait)
        desk.later(1)
    await desk.tell()

    assert receiver.taken == ["r1:1", "r1:1", "r1:1", "r1:1", "r1:2"]


async def test_one_runs_failure_holds_up_no_other(desk: Desk, receiver: Receiver) -> None:
    receiver.answers = [500]
    await desk.note("r1", "run_failed")
    await desk.tell()
    await desk.note("r2", "run_completed")
    await desk.tell()

    assert receiver.taken == ["r1:1", "r2:1"]


async def test_what_nobody_takes_for_days_is_given_up_and_the_rest_goes_on(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.answers = [503] * (len(BACKOFF_S) + 1)
    await desk.note("r1", "payment_settled")
    await desk.note("r1", "run_completed")
    for wait in (*BACKOFF_S, 1):
        await desk.tell()
        desk.later(wait)
    await desk.tell()

    assert receiver.taken == ["r1:1"] * (len(BACKOFF_S) + 1) + ["r1:2"]
    assert sum(BACKOFF_S) > 3 * 24 * 3600


async def test_a_receiver_that_is_gone_is_told_no_more(desk: Desk, receiver: Receiver) -> None:
    receiver.answers = [410]
    await desk.note("r1", "payment_settled")
    await desk.tell()
    desk.restart()
    desk.later(3600)
    await desk.note("r2", "payment_settled")
    await desk.tell()

    assert receiver.taken == ["r1:1"]
    assert await desk.deliveries.disabled() == "it answered 410"
    elsewhere = Deliveries(desk.store, receiver_of(URL + "/new"))
    assert await elsewhere.disabled() == ""


async def test_who_died_while_telling_is_taken_over_when_the_claim_ends(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.note("r1", "payment_settled")
    await desk.deliveries.discover(TYPES, desk.at, desk.at)
    (due,) = await desk.deliveries.due(desk.at, 8)
    assert await desk.deliveries.claim(due, desk.at + timedelta(seconds=60))
    assert await desk.deliveries.claim(due, desk.at + timedelta(seconds=60)) is None
    desk.restart()
    await desk.tell()
    assert receiver.taken == []
    desk.later(61)
    await desk.tell()

    assert receiver.taken == ["r1:1"]


async def test_two_processes_tell_each_run_once(desk: Desk, receiver: Receiver) -> None:
    import asyncio

    for number in range(6):
        await desk.note(f"r{number}", "run_completed")
    other = Webhooks(
        desk.observations,
        Deliveries(desk.store, receiver_of(URL)),
        desk.http,
        URL,
        SECRET,
        desk.time,
    )
    await asyncio.gather(desk.tell(), other.deliver_due())

    assert sorted(receiver.taken) == [f"r{number}:1" for number in range(6)]


async def test_an_observation_written_late_is_told(desk: Desk, receiver: Receiver) -> None:
    """By a process whose clock is behind, or whose write took its time."""
    desk.later(90)
    await desk.tell()
    desk.later(-60)
    await desk.note("r1", "run_completed")
    desk.later(60)
    await desk.tell()

    assert receiver.taken == ["r1:1"]


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"webhook_url": URL}, "WEBHOOK_SECRET"),
        ({"webhook_secret": SecretStr(SECRET)}, "WEBHOOK_URL"),
    ],
)
def test_webhooks_that_are_configured_by_half_are_an_error(
    given: dict[str, Any], variable: str
) -> None:
    with pytest.raises(ConfigError) as error:
        Settings(**given)
    assert error.value.variable == variable


def test_a_short_secret_is_refused_unseen() -> None:
    with pytest.raises(ConfigError, match="WEBHOOK_SECRET") as error:
        Settings.load({"WEBHOOK_URL": URL, "WEBHOOK_SECRET": "whsec_c2hvcnQ="})
    assert "c2hvcnQ" not in str(error.value)
    assert json.dumps(Settings(webhook_url=URL, webhook_secret=SecretStr(SECRET)).webhook_url)
