"""`GET /api/agent-events`: a run's journal as it grows, as server-sent events.

    id: 7
    data: {"seq": 7, "type": "payment_settled", "content": "…", "data": {…}, "createdAt": "…"}

    event: end
    data: {"status": "completed"}

Every observation comes once and in order. `Last-Event-ID` goes on after the one that it names, on
any process. The journal in MongoDB is what is sent; a change stream, where the server has one, only
says when to look. FastAPI keeps a silent stream open for proxies.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import datetime
from typing import Annotated, Final

from anyio import BrokenResourceError
from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from domain.errors import RenterError
from domain.jobs import RunStatus
from ledger.ledger import Ledger
from ledger.run import HeldLease
from server.access import Principal, WhoAsks
from server.api.documented import of_stream
from server.api.requests import HELP, RunId
from server.api.views import observation_view
from server.keeper import Keeper
from server.middleware.rate_limits import TooMany

LOG: Final = logging.getLogger(__name__)
POLL_S: Final = 0.5
WATCHED_POLL_S: Final = 5.0
"""Seconds between reads besides a change stream's signals, for what it may have missed."""
LIVELY_S: Final = 3.0
LONGEST_STREAM_S: Final = 900.0
MOST_AT_ONCE: Final = 200
MOST_STREAMS: Final = 256
MOST_STREAMS_EACH: Final = 16
LARGEST_SEQ: Final = 2**53
RETRY_MS: Final = 2_000


class Streams:
    """How many streams are open, of all and of each key."""

    def __init__(self, most: int = MOST_STREAMS, most_each: int = MOST_STREAMS_EACH) -> None:
        self._most = most
        self._most_each = most_each
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        return self._open.total()

    @contextmanager
    def one(self, who: Principal) -> Iterator[None]:
        """Count a stream as open in the block. Raises TooMany. Without keys, only all count."""
        name = who.key_id or ""
        if self.open >= self._most or (name and self._open[name] >= self._most_each):
            raise TooMany("Too many event streams are open", retry_after_s=5)
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            self._open += Counter()  # drops the names that have none left


class Wakeups:
    """Tells listeners when a run's journal has grown; all share one change stream."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._live = False

    @contextmanager
    def of(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event, set whenever the run's journal grows, where the server can tell."""
        grown = asyncio.Event()
        self._waiting[run_id].add(grown)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            yield grown
        finally:
            self._waiting[run_id].discard(grown)
            if not self._waiting[run_id]:
                del self._waiting[run_id]
            if not self._waiting:
                self._task.cancel()
                self._task = None

    @property
    def poll_s(self) -> float:
        """The longest wait before the journal is read without such an event."""
        return WATCHED_POLL_S if self._live else POLL_S

    async def _watch(self) -> None:
        try:
            async with aclosing(self._ledger.observations.documents.inserts()) as inserts:
                async for document in inserts:
                    self._live = True
                    for grown in self._waiting.get(document["runId"], ()):
                        grown.set()
        except RenterError as error:
            LOG.info("No change stream, so event streams poll: %s", error)
        finally:
            self._live = False


class JournalStream:
    """One run's events, from after `seq` on."""

    def __init__(
        self,
        ledger: Ledger,
        wakeups: Wakeups,
        run_id: str,
        seq: int,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._wakeups = wakeups
        self._run_id = run_id
        self._seq = seq
        self._now = now

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """Server-sent events until the run has ended and everything is told."""
        loop = asyncio.get_running_loop()
        until, spoke = loop.time() + LONGEST_STREAM_S, loop.time()
        yield ServerSentEvent(retry=RETRY_MS)
        with self._wakeups.of(self._run_id) as grown:
            while loop.time() < until:
                grown.clear()
                ended = await self._ended()  # before the journal is read: its end is in it then
                entries = await self._ledger.observations.of_run(
                    self._run_id, after=self._seq, limit=MOST_AT_ONCE
                )
                for entry in entries:
                    self._seq, spoke = entry.seq, loop.time()
                    shown = observation_view(entry).model_dump_json(by_alias=True)
                    yield ServerSentEvent(id=str(entry.seq), raw_data=shown)
                if entries:
                    continue
                if ended:
                    yield ServerSentEvent(event="end", data={"status": ended})
                    return
                # The end of a run is no observation, so it is looked for while the run is lively.
                lively = loop.time() - spoke < LIVELY_S
                await _either(grown, POLL_S if lively else self._wakeups.poll_s)

    async def _ended(self) -> str:
        """The status of a run that has ended, and whose last tick is over; else empty."""
        fields = {"status": 1, "lease": 1}
        found = await self._ledger.spenders.documents.find({"_id": self._run_id}, fields=fields)
        if not found or not RunStatus(found[0]["status"]).ended:
            return ""
        lease = found[0]["lease"]
        at_work = lease is not None and HeldLease.of(lease).lasts(self._now())
        return "" if at_work else str(found[0]["status"])


async def _either(grown: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await grown.wait()
    except TimeoutError:
        pass


def event_routes(keeper: Keeper, streams: Streams | None = None) -> APIRouter:
    """The events of a run."""
    router = APIRouter(prefix="/api", tags=["agent"])
    counted = streams or Streams()
    watched: list[tuple[Ledger, Wakeups]] = []

    def wakeups(ledger: Ledger) -> Wakeups:
        if not watched or watched[0][0] is not ledger:
            watched[:] = [(ledger, Wakeups(ledger))]
        return watched[0][1]

    async def journal_of(
        who: WhoAsks,
        run_id: Annotated[RunId, Query(alias="runId", description=HELP["runId"])],
        last_event_id: Annotated[
            int,
            Header(
                alias="Last-Event-ID",
                ge=0,
                le=LARGEST_SEQ,
                description="Go on after this observation: the last one that was read.",
            ),
        ] = 0,
    ) -> AsyncGenerator[AsyncGenerator[ServerSentEvent]]:
        """What is to be told, which counts as an open stream for as long as its client stays."""
        deps = (await keeper.services()).deps
        run = who.check_sees(await deps.ledger.spenders.get(run_id))
        journal = JournalStream(deps.ledger, wakeups(deps.ledger), run.id, last_event_id, deps.now)
        with counted.one(who):
            async with aclosing(journal.events()) as events:
                try:
                    yield events
                except* BrokenResourceError:  # the client left while FastAPI had something to send
                    pass

    @router.get(
        "/agent-events",
        response_class=EventSourceResponse,
        response_description="Events, for as long as the run goes on.",
        responses=of_stream(404),
    )
    async def agent_events(
        # A default, for Annotated is read outside of here.
        events: AsyncGenerator[ServerSentEvent] = Depends(journal_of),  # noqa: B008
    ) -> AsyncGenerator[ServerSentEvent]:
        """Follow a run: its observations as server-sent events, each with its seq as its id.

        An event `end` comes when the run has ended. A browser's EventSource goes on where it was
        cut off by itself.
        """
        try:
            async for event in events:
                yield event
        except RenterError as error:
            LOG.warning("An event stream is cut off; its client may come back: %s", error)

    return router
