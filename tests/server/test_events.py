"""A run's journal as server-sent events: whole, in order, resumable, and ending with the run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import httpx
import pytest
from fastapi.sse import ServerSentEvent

from domain.errors import StoreDown
from domain.journal import Note, NoteType
from ledger.ledger import Ledger
from ledger.observations import Head
from ledger.store import Documents
from server.access import EVERYBODY, Principal, Scope
from server.api.events import JournalStream, Streams, Wakeups
from server.app import create_app
from server.middleware.rate_limits import TooMany
from server.wiring import Services
from tests.server.conftest import Api, opening
from tests.server.exposed import exposed
from tests.server.test_api_http import listening


def parsed(text: str) -> list[dict[str, str]]:
    """The fields of each event, comments left out."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block]
    return [
        dict(line.split(": ", 1) for line in lines if not line.startswith(":")) for lines in blocks
    ]


async def events(api: Api, run_id: str, **headers: str) -> list[dict[str, str]]:
    answer = await api.http.get("/api/agent-events", params={"runId": run_id}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parsed(answer.text)


async def ended_run(api: Api) -> str:
    run_id = str((await api.start())["_id"])
    await api.message(run_id)
    await api.http.post("/api/agent-cancel", json={"runId": run_id})
    return run_id


async def test_an_ended_run_is_told_whole_and_in_order(api: Api) -> None:
    run_id = await ended_run(api)
    retry, *told, end = await events(api, run_id)
    status = await api.status(run_id)

    assert list(retry) == ["retry"]
    assert [json.loads(event["data"]) for event in told] == status["observations"]
    assert [event["id"] for event in told] == [str(o["seq"]) for o in status["observations"]]
    assert end == {"event": "end", "data": '{"status": "cancelled"}'}


async def test_a_client_that_was_cut_off_goes_on_after_what_it_has_read(api: Api) -> None:
    run_id = await ended_run(api)
    whole = await events(api, run_id)
    rest = await events(api, run_id, **{"Last-Event-ID": "3"})

    assert rest == [whole[0], *whole[4:]]


@pytest.mark.parametrize("seq", ["-1", "x", "1e3", str(2**60)])
async def test_a_last_event_id_that_is_none_is_refused(api: Api, seq: str) -> None:
    run_id = str((await api.start())["_id"])
    answer = await api.http.get(
        "/api/agent-events", params={"runId": run_id}, headers={"Last-Event-ID": seq}
    )

    assert answer.status_code == 422


async def append(ledger: Ledger, run_id: str, services: Services, *contents: str) -> None:
    await ledger.observations.append(
        run_id,
        Head(),
        [Note(NoteType.JOB_LOG, content) for content in contents],
        services.deps.now(),
    )


async def test_what_happens_while_one_listens_is_told_at_once(api: Api, services: Services) -> None:
    ledger, run_id = services.deps.ledger, str((await api.start())["_id"])
    journal = JournalStream(ledger, Wakeups(ledger), run_id, 0, services.deps.now)
    async with asyncio.timeout(20), aclosing(journal.events()) as told:
        assert (await anext(told)).retry
        for content in ("Epoch 1", "Epoch 2"):
            next_ = asyncio.ensure_future(anext(told))
            await append(ledger, run_id, services, content)
            assert json.loads((await next_).raw_data or "")["content"] == content


async def test_listeners_that_leave_leave_nothing_behind(api: Api, services: Services) -> None:
    ledger, run_id = services.deps.ledger, str((await api.start())["_id"])
    wakeups = Wakeups(ledger)
    for _ in range(3):
        journal = JournalStream(ledger, wakeups, run_id, 0, services.deps.now)
        async with aclosing(journal.events()) as told:
            await append(ledger, run_id, services, "Epoch")
            await anext(told)
            await anext(told)

    assert not wakeups._waiting
    assert wakeups._task is None


class CountedStreams(Streams):
    """Says when the last one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = asyncio.Event()

    @contextmanager
    def one(self, who: Principal) -> Iterator[None]:
        with super().one(who):
            yield
        self._closed.set()

    async def none_open(self) -> None:
        await self._closed.wait()


async def test_a_client_that_hangs_up_frees_its_stream(services: Services) -> None:
    """Over a real connection: the server notices by itself."""
    streams = CountedStreams()
    app = create_app(opening(services), services.settings, streams=streams)
    async with listening(app) as http:
        run_id = str((await Api(http).start())["_id"])
        url = f"/api/agent-events?runId={run_id}"
        async with http.stream("GET", url) as answer:
            await anext(aiter(answer.aiter_lines()))
            during = streams.open
        async with asyncio.timeout(20):
            await streams.none_open()

    assert during == 1
    assert streams.open == 0


async def test_a_client_that_leaves_while_it_is_told_much_is_no_error(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = 0

    async def much(_: JournalStream) -> AsyncGenerator[ServerSentEvent]:
        nonlocal told
        told += 1
        try:
            while True:
                await asyncio.sleep(0)
                yield ServerSentEvent(data="x" * 1_000)
        finally:
            told -= 1

    monkeypatch.setattr(JournalStream, "events", much)
    streams = CountedStreams()
    app = create_app(opening(services), services.settings, streams=streams)
    async with listening(app) as http:
        run_id = str((await Api(http).start())["_id"])
        async with http.stream("GET", f"/api/agent-events?runId={run_id}") as answer:
            await anext(aiter(answer.aiter_lines()))
            during = told
        async with asyncio.timeout(20):
            await streams.none_open()
        after = told

    assert (during, after) == (1, 0)
    assert [record for record in caplog.records if "ASGI" in record.getMessage()] == []


def test_one_key_has_only_so_many_streams() -> None:
    streams = Streams(most=3, most_each=2)
    one, two = (Principal("u", frozenset(Scope), key_id) for key_id in ("k1", "k2"))
    with streams.one(one), streams.one(one):
        with pytest.raises(TooMany), streams.one(one):
            pass
        with streams.one(two), pytest.raises(TooMany), streams.one(EVERYBODY):
            pass
    with streams.one(one):
        assert streams.open == 1
    assert streams.open == 0


async def test_one_stream_too_many_is_told_when_to_come_back(services: Services) -> None:
    async with exposed(services) as server:
        api = server.with_key(await server.key("u1"))
        run_id = await ended_run(api)
        full = create_app(opening(server.services), server.services.settings, Streams(most=0))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(full), base_url="http://api", headers=api.http.headers
        ) as http:
            answer = await http.get("/api/agent-events", params={"runId": run_id})

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "5"


async def test_without_change_streams_the_journal_is_polled(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alone(Documents):
        async def inserts(self) -> AsyncGenerator[dict[str, Any]]:
            for _ in ():
                yield {}
            raise StoreDown("MongoDB did not answer (OperationFailure)")

    monkeypatch.setattr(Documents, "inserts", Alone.inserts)
    await test_what_happens_while_one_listens_is_told_at_once(api, services)
