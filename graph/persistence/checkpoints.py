"""Checkpoints in MongoDB: LangGraph's saver, which stores what changed and builds no code.

A state equal to its parent's is not stored again, so a run has a checkpoint for each thing that
happened and none for a tick that changed nothing. Of a thread's states the newest are kept. What is
read builds no object but those that a state is made of.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from random import random
from threading import Lock
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
)
from langgraph.checkpoint.mongodb import MongoDBSaver
from langgraph.checkpoint.mongodb.utils import loads_metadata
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME
from langgraph.constants import START
from pymongo import DESCENDING, MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.synchronous.database import Database

from domain.errors import LeaseLost, StateRefused
from graph.persistence.strict_serializer import ForeignType, StrictSerializer
from ledger.store import PINNED, SERVER_SELECTION_MS, SOCKET_MS, Document, Store, store_down

CHECKPOINTS: Final = "checkpoints"
WRITES: Final = "checkpoint_writes"
MOST_STATES: Final = 40
"""The newest states of a thread that are kept."""
PRUNED_EVERY: Final = 10
"""Steps between two prunings of a thread, which may hold so many states more meanwhile."""

_KEPT: Final = frozenset({INTERRUPT, RESUME})
"""The pending writes that are stored."""
_FORKS: Final = ("update", "fork")
"""Sources of a state that begins a branch: stored in any case, for the branch hangs on it."""
_AT_HAND: Final = 2_048
"""Positions of invocations under way that are remembered."""
_ONE_PARENT_ONE_CHILD: Final = "thread_id_1_checkpoint_ns_1_parent_checkpoint_id_1"
"""A unique index that an older version made. It forbids forks."""
_INDEX_NOT_FOUND: Final = 27
"""MongoDB's code for it."""


@dataclass(frozen=True, slots=True)
class _Position:
    """The position of an invocation: the newest of its states that is stored."""

    stored: str
    """Its checkpoint's id."""
    step: int
    """How many steps its thread had taken."""
    values: bytes
    """A digest of what its channels hold."""
    addressed: bool = False
    """Whether it was asked for by its id: what comes after it may be a branch."""


class RunSaver(MongoDBSaver):
    """LangGraph's saver, in its own layout, which stores only what a run resumes from.

    Of a step's pending writes it stores only interrupts and answers. The others would let LangGraph
    resume within an unsaved step. A run never does: each node starts anew, and finds in the ledger
    what it had done.

    The run's lease keeps two invocations of a thread apart; a thread may have branches. A process
    that was suspended, and would store a state beside a newer one, gets LeaseLost.

    Reading raises StateRefused where stored data names a type that no state of ours holds.
    """

    def __init__(
        self, client: MongoClient[Any], *, most_states: int = MOST_STATES, **options: Any
    ) -> None:
        super().__init__(client, serde=StrictSerializer(), **options)
        self._most_states = most_states
        self._positions: OrderedDict[str, _Position] = OrderedDict()
        self._lock = Lock()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As the base does, but reads pending writes only where a step is pending."""
        thread = _thread(config)
        named = get_checkpoint_id(config)
        query = thread | ({"checkpoint_id": str(named)} if named else {})
        found = self.checkpoint_collection.find(
            query, sort=[("checkpoint_id", DESCENDING)], limit=1
        )
        with _refusing(config):
            return next((self._tuple(document, bool(named)) for document in found), None)

    def _tuple(self, document: Document, addressed: bool) -> CheckpointTuple:
        checkpoint = _counted_in_text(
            self.serde.loads_typed((document["type"], document["checkpoint"]))
        )
        checkpoint_id, values = document["checkpoint_id"], checkpoint["channel_values"]
        metadata = loads_metadata(self.serde, document["metadata"])
        step, digest = metadata.get("step", 0), self._digest(values)
        self._stands(checkpoint_id, _Position(checkpoint_id, step, digest, addressed))
        at, parent = _at(document, checkpoint_id), document.get("parent_checkpoint_id")
        asked = any(_is_position(name) for name in values)
        pending = self.writes_collection.find(at["configurable"]) if asked else ()
        return CheckpointTuple(
            at,
            checkpoint,
            metadata,
            _at(document, parent) if parent else None,
            [
                (w["task_id"], w["channel"], self.serde.loads_typed((w["type"], w["value"])))
                for w in pending
            ],
        )

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

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As the base does, but values equal to the parent's are not stored: the parent stands for
        them. Raises LeaseLost where a newer state was stored meanwhile.
        """
        thread, values = _thread(config), self._digest(checkpoint["channel_values"])
        before = self._positions.get(get_checkpoint_id(config) or "")
        forks = metadata.get("source") in _FORKS
        if before and before.values == values and not forks:
            self._stands(checkpoint["id"], before)
            return _at(thread, checkpoint["id"])
        follows = None if before is None or before.addressed or forks else before
        if follows and self._nth_newest(thread, 0) not in ("", follows.stored):
            raise LeaseLost(f"Another tick went on with run {thread['thread_id']}")
        under = _at(thread, before.stored) if before else config
        put = super().put(under, checkpoint, metadata, new_versions)
        step = metadata.get("step", 0)
        self._stands(checkpoint["id"], _Position(checkpoint["id"], step, values))
        if follows is None or step // PRUNED_EVERY != follows.step // PRUNED_EVERY:
            self._prune(thread)
        return put

    def _nth_newest(self, thread: Document, n: int) -> str:
        """The id of a thread's state after its `n` newest; empty where there is none."""
        states = self.checkpoint_collection.find(
            thread, {"checkpoint_id": 1}, sort=[("checkpoint_id", DESCENDING)], skip=n, limit=1
        )
        return next((str(state["checkpoint_id"]) for state in states), "")

    def _prune(self, thread: Document) -> None:
        """Delete a thread's states but the newest."""
        if newest_to_go := self._nth_newest(thread, self._most_states):
            old = thread | {"checkpoint_id": {"$lte": newest_to_go}}
            self.checkpoint_collection.delete_many(old)
            self.writes_collection.delete_many(old)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if self._keeps(config, writes):
            super().put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if self._keeps(config, writes):
            await super().aput_writes(config, writes, task_id, task_path)

    def _keeps(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]]) -> bool:
        """Whether to store these writes: questions and answers, at a checkpoint that is stored. One
        that is not stored asks what its parent has asked already.
        """
        checkpoint_id = get_checkpoint_id(config) or ""
        stands = self._positions.get(checkpoint_id)
        stored = stands is None or stands.stored == checkpoint_id
        return stored and any(channel in _KEPT for channel, _ in writes)

    def get_next_version(self, current: Any, channel: None) -> Any:  # noqa: ARG002
        """Text, as LangGraph's server writes versions: either can continue."""
        number = 0 if current is None else int(str(current).split(".")[0])
        return _version(number + 1, random())

    def _digest(self, values: Mapping[str, Any]) -> bytes:
        """A hash of all channels' values but the position within the graph."""
        kept = sorted((n, v) for n, v in values.items() if not _is_position(n))
        return sha256(self.serde.dumps_typed(kept)[1]).digest()

    def _stands(self, checkpoint_id: str, position: _Position) -> None:
        with self._lock:
            self._positions[checkpoint_id] = position
            self._positions.move_to_end(checkpoint_id)
            while len(self._positions) > _AT_HAND:
                self._positions.popitem(last=False)


def _is_position(channel: str) -> bool:
    """Whether a channel only says where in the graph an invocation is."""
    return channel == START or channel.startswith("branch:")


def _version(number: int, tail: float) -> str:
    return f"{number:032}.{tail:.16f}"


def _counted_in_text(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, with an older version's numbers as text, so that they compare."""

    def text(version: Any) -> Any:
        return _version(version, 0.0) if isinstance(version, int) else version

    def texts(versions: Mapping[str, Any]) -> dict[str, Any]:
        return {name: text(version) for name, version in versions.items()}

    seen = {node: texts(versions) for node, versions in checkpoint["versions_seen"].items()}
    counted = texts(checkpoint["channel_versions"])
    return {**checkpoint, "channel_versions": counted, "versions_seen": seen}


@contextmanager
def _refusing(config: RunnableConfig | None) -> Iterator[None]:
    """Turn a ForeignType in the block into a StateRefused that names the run."""
    try:
        yield
    except ForeignType as foreign:
        run_id = str(((config or {}).get("configurable") or {}).get("thread_id", ""))
        raise StateRefused(run_id, str(foreign)) from foreign


def _thread(config: RunnableConfig) -> Document:
    named = config["configurable"]
    return {name: str(named.get(name, "")) for name in ("thread_id", "checkpoint_ns")}


def _at(thread: Mapping[str, Any], checkpoint_id: str) -> RunnableConfig:
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
    async def open(
        cls,
        uri: str,
        database: str,
        store: Store,
        *,
        most_states: int = MOST_STATES,
        **options: Any,
    ) -> Checkpoints:
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
                    most_states=most_states,
                )
                _drop_older_index(saver)
            except PyMongoError as error:
                client.close()
                raise store_down(error) from error
            return cls(saver, store)

        return await asyncio.to_thread(connect)

    async def forget(self, thread_id: str) -> None:
        """Delete all states of a thread, and what is pending in them, unread. Raises StoreDown."""
        await self._states.delete_all({"thread_id": thread_id})
        await self._writes.delete_all({"thread_id": thread_id})

    def close(self) -> None:
        self.saver.close()


def _drop_older_index(saver: RunSaver) -> None:
    try:
        saver.checkpoint_collection.drop_index(_ONE_PARENT_ONE_CHILD)
    except OperationFailure as error:
        if error.code != _INDEX_NOT_FOUND:
            raise
