"""Telling WEBHOOK_URL what happens, by the Standard Webhooks specification (v1, HMAC-SHA256).

Each chosen observation is sent at least once and, within its run, in order. Its `webhook-id`
(`run:seq`) is the same at every repetition, for the receiver to tell by. A receiver that fails is
tried again for three days, and then the observation is given up; one that answers 410 is told no
more. How far each run was told stands in MongoDB, so any process goes on after any crash.

The package `standardwebhooks` signs, and sends nothing. A queue for the sending would be a second
list of what the journal holds already, and the two could differ after a crash.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

import httpx
from standardwebhooks import Webhook

from domain.errors import RenterError
from domain.journal import Entry, NoteClass, NoteType
from ledger.deliveries import Cursor, Deliveries
from ledger.observations import Observations
from server.wiring import Services
from tools.wire.clients import open_client
from tools.wire.exchange import Limits, NoAnswer, exchange
from tools.wire.public_hosts import public_client
from tools.wire.untrusted import Unreadable

LOG: Final = logging.getLogger(__name__)
TYPES: Final = tuple(type_ for type_ in NoteType if NoteClass.SENT in type_.classes)

BACKOFF_S: Final = (5, 30, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
POLL_S: Final = 1.0
MEND_EVERY: Final = 60
"""Rounds between two looks for times that cannot be."""
OVERLAP: Final = timedelta(minutes=2)
"""How far behind a clock, and how late with a write, another process may be."""
CLAIM: Final = timedelta(seconds=60)
AT_ONCE: Final = 8
ENTRIES_AT_ONCE: Final = 50
LIMITS: Final = Limits(connect_s=5, read_s=15, total_s=20, body_bytes=64 * 1024)


class ReceiverReply(Enum):
    TAKEN = "taken"
    FAILED = "failed"
    GONE = "gone"


class Webhooks:
    """One receiver."""

    def __init__(
        self,
        observations: Observations,
        deliveries: Deliveries,
        http: httpx.AsyncClient,
        url: str,
        secret: str,
        now: Callable[[], datetime],
    ) -> None:
        self._observations = observations
        self._deliveries = deliveries
        self._http = http
        self._url = url
        self._signer = Webhook(secret)
        self._now = now

    async def deliver_due(self) -> None:
        """Look for what is to be told, and tell what is due. Raises StoreDown."""
        now = self._now()
        mark = await self._deliveries.watermark(now)
        if await self._deliveries.disabled():
            return
        await self._deliveries.discover(TYPES, mark - OVERLAP, now)
        await self._deliveries.advance(now)
        due = await self._deliveries.due(now, AT_ONCE)
        await asyncio.gather(*(self._tell_run(cursor) for cursor in due))

    async def _tell_run(self, due: Cursor) -> None:
        """Tell what one run has to tell, in order, up to the first failure."""
        cursor = await self._deliveries.claim(due, self._now() + CLAIM)
        while cursor is not None:
            entries = await self._observations.of_run(
                cursor.run_id, after=cursor.seq, types=TYPES, limit=ENTRIES_AT_ONCE
            )
            if not entries:
                await self._deliveries.finished(cursor)
                return
            for entry in entries:
                cursor = await self._tell(cursor, entry)
                if cursor is None:
                    return

    async def _tell(self, cursor: Cursor, entry: Entry) -> Cursor | None:
        """The cursor after the entry, or None when this run has to wait."""
        reply = await self._send(entry)
        if reply is ReceiverReply.GONE:
            LOG.warning("WEBHOOK_URL answered 410 and is told no more")
            await self._deliveries.disable("it answered 410")
            return None
        if reply is ReceiverReply.FAILED and cursor.attempts < len(BACKOFF_S):
            wait = timedelta(seconds=BACKOFF_S[cursor.attempts])
            await self._deliveries.failed(cursor, self._now() + wait)
            return None
        if reply is ReceiverReply.FAILED:
            LOG.error("run %s: webhook of observation %d given up", entry.run_id, entry.seq)
        return await self._deliveries.told(cursor, entry.seq, self._now() + CLAIM)

    async def _send(self, entry: Entry) -> ReceiverReply:
        id_, at = f"{entry.run_id}:{entry.seq}", self._now()
        body = payload(entry)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": id_,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(id_, at, body),
        }
        try:
            answer = await exchange(
                self._http,
                "POST",
                self._url,
                limits=LIMITS,
                headers=headers,
                content=body.encode(),
            )
        except (NoAnswer, Unreadable) as error:
            LOG.warning("WEBHOOK_URL did not take %s: %s", id_, error)
            return ReceiverReply.FAILED
        if answer.status_code == httpx.codes.GONE:
            return ReceiverReply.GONE
        if 200 <= answer.status_code < 300:
            return ReceiverReply.TAKEN
        LOG.warning("WEBHOOK_URL did not take %s: it answered %d", id_, answer.status_code)
        return ReceiverReply.FAILED


def payload(entry: Entry) -> str:
    """What the receiver reads."""
    at = entry.created_at.astimezone(UTC).isoformat(timespec="milliseconds")
    event = {
        "type": entry.note.type,
        "timestamp": at.replace("+00:00", "Z"),
        "data": {
            "runId": entry.run_id,
            "seq": entry.seq,
            "content": entry.note.content,
            **({"details": dict(entry.note.data)} if entry.note.data else {}),
        },
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)


@asynccontextmanager
async def delivering(services: Services) -> AsyncIterator[None]:
    """Tell WEBHOOK_URL, if there is one, for as long as the services are open.

    Any number of processes may do so at once: a claim lets one tell each run.
    """
    settings = services.settings
    if settings.webhook_url is None or settings.webhook_secret is None:
        yield
        return
    async with AsyncExitStack() as stack:
        local = settings.network.is_local
        client = open_client(trust_env=False) if local else public_client()
        http = await stack.enter_async_context(client)
        ledger = services.deps.ledger
        deliveries = Deliveries(ledger.store, receiver_of(settings.webhook_url))
        webhooks = Webhooks(
            ledger.observations,
            deliveries,
            http,
            settings.webhook_url,
            settings.webhook_secret.get_secret_value(),
            services.deps.now,
        )
        task = asyncio.create_task(_deliver(webhooks, deliveries, services.deps.now))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def receiver_of(url: str) -> str:
    """The name of a receiver in the ledger, where its address, which may hold a key, is not."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


async def _deliver(webhooks: Webhooks, deliveries: Deliveries, now: Callable[[], datetime]) -> None:
    indexed, rounds = False, 0
    while True:
        try:
            if not indexed:
                await deliveries.ensure_indexes()
                indexed = True
            if rounds % MEND_EVERY == 0:
                await deliveries.mend_times(now())
            rounds += 1
            await webhooks.deliver_due()
        except RenterError as error:
            LOG.warning("Webhooks wait: %s", error)
        except Exception:
            LOG.exception("Webhooks failed; they go on")
        await asyncio.sleep(POLL_S)
