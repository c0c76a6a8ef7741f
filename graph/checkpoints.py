"""Checkpoints in MongoDB: one for each run, its newest.

LangGraph's saver stores the whole state at each step and never forgets; a run that is ticked for
days would grow without end. Here each checkpoint takes its parent's place, in one guarded write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.mongodb import MongoDBSaver
from langgraph.checkpoint.mongodb.utils import dumps_metadata, loads_metadata
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME
from langgraph.constants import START
from pymongo import ASCENDING, MongoClient
from pymongo.errors import PyMongoError
from pymongo.synchronous.database import Database

from domain.errors import LeaseLost, StateRefused
from graph.strict_serializer import ForeignType, StrictSerializer
from ledger.following import CHECKPOINTS as CHECKPOINTS
from ledger.store import PINNED, SERVER_SELECTION_MS, SOCKET_MS, Document, Store, store_down

WRITES: Final = "checkpoint_writes"
SAVED_ONCE: Final = "__saved_once"
"""In a config's `configurable`, with a SavedOnce: the invocation saves only at its end."""

_STORED: Final = "__stored"
"""There too, put by the saver: the state as it is stored."""

_KEPT: Final = frozenset({INTERRUPT, RESUME})
"""The pending writes that are stored."""


class Moved(Exception):
    """The state is not in the phase that its run's document says, or an invocation that was broken
    off left a step pending. Never leaves the tick.
    """


@dataclass(frozen=True, slots=True)
class SavedOnce:
    """How an invocation may save once."""

    phase: str
    """Only from a state in this phase; `Moved` is raised for another."""
    newest: Document
    """The thread's newest checkpoint, as it is stored."""
    check_lease: Callable[[], None]
    """Raises LeaseLost when the run may be another's by now; asked before a changed state is
    stored, because those who changed nothing left no trace.
    """


class RunSaver(MongoDBSaver):
    """LangGraph's saver, in its own layout, that keeps only what a run goes on from.

    A checkpoint replaces its parent. Of two invocations that raced, the second finds its parent
    gone and raises LeaseLost.

    Of a step's pending writes only interrupts and answers are stored. The others would let
    LangGraph go on within a step that had ended unsaved. A run never does: each invocation enters
    anew, and each node looks in the ledger for what it had done.

    Of an invocation that saves once, the state was read with its run and the pending writes are
    not read, and a state that is what it was is not stored again: most ticks only find that their
    job still runs.

    Reading raises StateRefused where what is stored names a type that no state of ours holds.
    """

    def __init__(self, client: MongoClient[Any], **options: Any) -> None:
        super().__init__(client, serde=StrictSerializer(), **options)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        with _refusing(config):
            return super().get_tuple(config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        with _refusing(config):
            yield from super().list(config, filter=filter, before=before, limit=limit)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        once = config["configurable"].get(SAVED_ONCE)
        if once is None:
            return await super().aget_tuple(config)
        with _refusing(config):
            return self._as_read(once)

    def _as_read(self, once: SavedOnce) -> CheckpointTuple:
        newest = once.newest
        checkpoint = self.serde.loads_typed((newest["type"], newest["checkpoint"]))
        values = checkpoint["channel_values"]
        pending = any(name == START or name.startswith("branch:") for name in values)
        if pending or values.get("phase") != once.phase:
            raise Moved
        at = _position(newest, newest["checkpoint_id"])
        at["configurable"][_STORED] = self._state_of(checkpoint)
        metadata = loads_metadata(self.serde, newest["metadata"])
        return CheckpointTuple(at, checkpoint, metadata, None, [])

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        position, parent = config["configurable"], get_checkpoint_id(config)
        once = position.get(SAVED_ONCE)
        if once is not None and parent:
            if position.get(_STORED) == self._state_of(checkpoint):
                return _position(position, parent)
            if f"branch:to:{once.phase}" in checkpoint["channel_values"]:
                return _position(position, parent)  # its step did not end: it will be repeated
            once.check_lease()
        return await super().aput(config, checkpoint, metadata, new_versions)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        parent = get_checkpoint_id(config)
        if not parent:
            return super().put(config, checkpoint, metadata, new_versions)
        position = config["configurable"]
        thread = {
            "thread_id": position["thread_id"],
            "checkpoint_ns": position["checkpoint_ns"],
        }
        type_, serialized = self.serde.dumps_typed(checkpoint)
        replaced = self.checkpoint_collection.update_one(
            {**thread, "checkpoint_id": parent},
            {
                "$set": {
                    "checkpoint_id": checkpoint["id"],
                    "parent_checkpoint_id": parent,
                    "type": type_,
                    "checkpoint": serialized,
                    "metadata": dumps_metadata(
                        self.serde, get_checkpoint_metadata(config, metadata)
                    ),
                }
            },
        )
        if not replaced.matched_count:
            raise LeaseLost(f"Another tick went on with run {position['thread_id']}")
        return _position(position, checkpoint["id"])

    def _state_of(self, checkpoint: Checkpoint) -> bytes:
        """The values of all channels, to compare."""
        return self.serde.dumps_typed(sorted(checkpoint["channel_values"].items()))[1]

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if any(channel in _KEPT for channel, _ in writes):
            super().put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if any(channel in _KEPT for channel, _ in writes):
            await super().aput_writes(config, writes, task_id, task_path)


@contextmanager
def _refusing(config: RunnableConfig | None) -> Iterator[None]:
    """Say whose state it is that cannot be taken."""
    try:
        yield
    except ForeignType as foreign:
        run_id = str(((config or {}).get("configurable") or {}).get("thread_id", ""))
        raise StateRefused(run_id, str(foreign)) from foreign


def _position(thread: Mapping[str, Any], checkpoint_id: str) -> RunnableConfig:
    named = {name: thread[name] for name in ("thread_id", "checkpoint_ns")}
    return RunnableConfig(configurable={**named, "checkpoint_id": checkpoint_id})


class PinnedClient(MongoClient[Document]):
    """A client whose databases are opened as the ledger opens its own, whatever the address says.

    The saver and the transcripts choose no options: they take `client[name]`.
    """

    def __getitem__(self, name: str) -> Database[Document]:
        return self.get_database(name, **PINNED)


class Checkpoints:
    """The saver of one database. It is synchronous, so it has a client of its own."""

    def __init__(self, saver: RunSaver, store: Store) -> None:
        self.saver = saver
        self._states = store.documents(CHECKPOINTS)
        self._writes = store.documents(WRITES)

    @classmethod
    async def open(cls, uri: str, database: str, store: Store, **options: Any) -> Checkpoints:
        """Connect and make the indexes. Raises StoreDown."""

        def connect() -> Checkpoints:
            client = PinnedClient(
                uri,
                serverSelectionTimeoutMS=SERVER_SELECTION_MS,
                socketTimeoutMS=SOCKET_MS,
                appname="agentic-gpu-renter",
                **options,
            )
            try:
                saver = RunSaver(
                    client,
                    db_name=database,
                    checkpoint_collection_name=CHECKPOINTS,
                    writes_collection_name=WRITES,
                )
                # One child a checkpoint: of two invocations that raced, the second cannot save.
                saver.checkpoint_collection.create_index(
                    [
                        ("thread_id", ASCENDING),
                        ("checkpoint_ns", ASCENDING),
                        ("parent_checkpoint_id", ASCENDING),
                    ],
                    unique=True,
                )
            except PyMongoError as error:
                client.close()
                raise store_down(error) from error
            return cls(saver, store)

        return await asyncio.to_thread(connect)

    async def forget(self, thread_id: str) -> None:
        """Delete all states of a thread, and what is pending in them, unread. Raises StoreDown."""
        await self._states.delete_all({"thread_id": thread_id})
        await self._writes.delete_all({"thread_id": thread_id})

    async def prune(self, thread_id: str, newest: str) -> None:
        """Delete the pending writes of the thread's checkpoints before `newest`."""
        await self._writes.delete_all({"thread_id": thread_id, "checkpoint_id": {"$lt": newest}})

    def close(self) -> None:
        self.saver.close()
