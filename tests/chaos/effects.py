"""Effects: everything the agent does that outlasts it, each with a name and a number.

    runs.reserve#2           the second reservation taken off a run's budget, by this life
    payments.settled#1       the first payment written down as settled
    jobs.change#3            the third change of a document in `jobs`
    http.submit-job#2        the second request to that route; http.eth_call#1 to the chain
    sign#1                   the first signature by the wallet
    checkpoint.put#4         the fourth checkpoint saved

A *life* is one process of the agent: from its start to its end or crash. Each effect has two
moments, before and after, and a test's hooks are called at both. `Crash` ends the life there:
every later effect of that life raises Crash too, because a killed process runs no `finally`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import httpx
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from pymongo import IndexModel

from ledger.store import Document, Documents, Query, Store
from tests.chaos.record import Record
from tests.support.world import Wraps
from tools.payments.wallets import TypedData, Wallet

T = TypeVar("T")


class Crash(BaseException):
    """The process is dead. Not an Exception, so that nothing in it can handle its own death."""


class When(StrEnum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Moment:
    """Before or after the n-th effect of a name, counted from 1 within one life."""

    name: str
    n: int
    when: When

    def __str__(self) -> str:
        return f"{self.name}#{self.n}:{self.when}"


Hook = Callable[[Moment], Awaitable[None]]
"""Called at each moment; raises Crash to end the life, or waits to hold it up."""
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]
Meddle = Callable[[str, int, httpx.Request, Send], Awaitable[httpx.Response]]
"""What stands on the wire: gets the request's name and number and how to really send it."""


async def _send_on(name: str, n: int, request: httpx.Request, send: Send) -> httpx.Response:
    del name, n
    return await send(request)


class Life:
    """One process's effects, as they happen. `wraps()` puts it between the agent and the world."""

    def __init__(
        self, number: int, record: Record, hooks: Sequence[Hook] = (), meddle: Meddle = _send_on
    ) -> None:
        self.number = number
        self.record = record
        self.died_at: Moment | None = None
        self.moments: list[Moment] = []
        """What has been reached, in order."""
        self._hooks = hooks
        self._meddle = meddle
        self._counts: Counter[str] = Counter()

    def wraps(self) -> Wraps:
        return Wraps(
            store=lambda store: WatchedStore(store, self),
            http=lambda transport: WatchedHttp(transport, self),
            wallet=lambda wallet: WatchedWallet(wallet, self),
            saver=lambda saver: WatchedSaver(saver, self),
        )

    async def effect(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` as the next effect of this name."""
        n = self.count(name)
        await self._reach(Moment(name, n, When.BEFORE))
        try:
            result = await work()
        except Exception:
            await self._reach(Moment(name, n, When.AFTER))
            raise
        await self._reach(Moment(name, n, When.AFTER))
        return result

    async def request(self, name: str, request: httpx.Request, send: Send) -> httpx.Response:
        """Send a request as an effect, through whatever meddles with the wire."""
        n = self._counts[name] + 1
        return await self.effect(name, lambda: self._meddle(name, n, request, send))

    def count(self, name: str) -> int:
        self._counts[name] += 1
        return self._counts[name]

    async def _reach(self, moment: Moment) -> None:
        if self.died_at:
            raise Crash(moment)
        self.moments.append(moment)
        try:
            for hook in self._hooks:
                await hook(moment)
        except Crash:
            self.died_at = moment
            raise
        if self.died_at:  # while a hook held this effect up
            raise Crash(moment)


class WatchedStore(Store):
    def __init__(self, store: Store, life: Life) -> None:
        self._store, self._life = store, life

    def documents(self, collection: str) -> Documents:
        return WatchedDocuments(self._store.documents(collection), self._life)

    async def ping(self) -> None:
        await self._store.ping()

    async def time(self) -> datetime:
        return await self._store.time()

    async def close(self) -> None:
        await self._store.close()


class WatchedDocuments(Documents):
    def __init__(self, documents: Documents, life: Life) -> None:
        self._documents, self._life, self.name = documents, life, documents.name

    async def _do(self, command: str, work: Callable[[], Awaitable[T]]) -> T:
        return await self._life.effect(f"{self.name}.{command}", work)

    async def insert(self, document: Query) -> bool:
        return await self._do("insert", lambda: self._documents.insert(document))

    async def insert_all(self, documents: Sequence[Query]) -> None:
        await self._do("insert_all", lambda: self._documents.insert_all(documents))

    async def change(self, id_: str, guard: Query, update: Query) -> bool:
        what = _change(self.name, update)
        return await self._do(what, lambda: self._documents.change(id_, guard, update))

    async def put(self, id_: str, fields: Query, on_insert: Query) -> None:
        await self._do("put", lambda: self._documents.put(id_, fields, on_insert))

    async def delete(self, id_: str) -> bool:
        return await self._do("delete", lambda: self._documents.delete(id_))

    async def delete_all(self, query: Query) -> None:
        await self._do("delete_all", lambda: self._documents.delete_all(query))

    async def get(self, id_: str) -> Document | None:
        return await self._do("get", lambda: self._documents.get(id_))

    async def find(
        self,
        query: Query,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        fields: Query | None = None,
    ) -> list[Document]:
        return await self._do(
            "find", lambda: self._documents.find(query, sort=sort, limit=limit, fields=fields)
        )

    async def aggregate(self, pipeline: Sequence[Query]) -> list[Document]:
        return await self._do("aggregate", lambda: self._documents.aggregate(pipeline))

    async def drop_index(self, name: str) -> None:
        await self._documents.drop_index(name)  # before the life's first tick, as the next

    async def ensure_indexes(self, indexes: Sequence[IndexModel]) -> None:
        await self._documents.ensure_indexes(indexes)


class WatchedHttp(httpx.AsyncBaseTransport):
    def __init__(self, transport: httpx.AsyncBaseTransport, life: Life) -> None:
        self._transport, self._life = transport, life

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._life.record.sent(request)
        name = f"http.{call_of(request)}"
        return await self._life.request(name, request, self._transport.handle_async_request)


class WatchedWallet:
    def __init__(self, wallet: Wallet, life: Life) -> None:
        self._wallet, self._life = wallet, life

    @property
    def address(self) -> str:
        return self._wallet.address

    async def sign_typed_data(self, typed_data: TypedData) -> str:
        async def sign() -> str:
            self._life.record.signatures.append(typed_data)
            return await self._wallet.sign_typed_data(typed_data)

        return await self._life.effect("sign", sign)


class WatchedSaver(BaseCheckpointSaver[Any]):
    def __init__(self, saver: BaseCheckpointSaver[Any], life: Life) -> None:
        super().__init__(serde=saver.serde)
        self._saver, self._life = saver, life

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._life.effect("checkpoint.get", lambda: self._saver.aget_tuple(config))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self._life.effect(
            "checkpoint.put",
            lambda: self._saver.aput(config, checkpoint, metadata, new_versions),
        )

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await self._life.effect(
            "checkpoint.put_writes",
            lambda: self._saver.aput_writes(config, writes, task_id, task_path),
        )

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._saver.get_next_version(current, channel)

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        return self._saver.alist(config, filter=filter, before=before, limit=limit)


def _change(collection: str, update: Query) -> str:
    """What a change is for: the step of the budget, or the state that a payment goes to."""
    set_, added = update.get("$set", {}), update.get("$inc", {})
    if collection == "payments":
        return str(set_.get("state", "change"))
    if collection not in ("runs", "purchases"):
        return "change"
    for name, is_it in (
        ("close", "$unset" in update),
        ("refund", "refunds" in update.get("$push", {})),
        ("reserve", "nextSlot" in added),
        ("share", any(field.endswith(".shared") for field in set_)),
        ("arm", any(field.endswith(".armed") for field in set_)),
        ("acquire", "fence" in added),
        ("leave", "lease" in set_ and set_["lease"] is None),
        ("end", "endedAt" in set_),
    ):
        if is_it:
            return name
    return "change"


def call_of(request: httpx.Request) -> str:
    """What a request asks for: the vendor's route, or the chain's JSON-RPC method."""
    if request.url.host == "chain.test":
        return str(_json(request).get("method", "rpc"))
    return request.url.path.strip("/").split("/")[0]


def _json(request: httpx.Request) -> Mapping[str, Any]:
    parsed = json.loads(request.content)
    return parsed if isinstance(parsed, dict) else {}
