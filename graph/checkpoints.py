"""Checkpoints in MongoDB: opening the saver, and pruning what is behind a run.

The saver stores the whole state at each step and never forgets; a run that is ticked for days
would grow without end. After each tick only the newest checkpoint of its thread is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.mongodb import MongoDBSaver
from pymongo import ASCENDING, MongoClient
from pymongo.errors import PyMongoError

from domain.errors import StoreDown
from ledger.store import SERVER_SELECTION_MS, SOCKET_MS, Store

CHECKPOINTS: Final = "checkpoints"
WRITES: Final = "checkpoint_writes"


class RunSaver(MongoDBSaver):
    """Saves checkpoints, and of a step's pending writes only interrupts, answers and errors.

    The others would let LangGraph go on within a step that had ended unsaved. A run never does:
    each invocation enters at START, and each node looks in the ledger for what it had done.
    """

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if any(channel in WRITES_IDX_MAP for channel, _ in writes):
            super().put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if any(channel in WRITES_IDX_MAP for channel, _ in writes):
            await super().aput_writes(config, writes, task_id, task_path)


class Checkpoints:
    """The saver of one database. It is synchronous, so it has a client of its own."""

    def __init__(self, saver: RunSaver, store: Store) -> None:
        self.saver = saver
        self._checkpoints = store.documents(CHECKPOINTS)
        self._writes = store.documents(WRITES)

    @classmethod
    async def open(cls, uri: str, database: str, store: Store, **options: Any) -> Checkpoints:
        """Connect and make the indexes. Raises StoreDown."""

        def connect() -> Checkpoints:
            client: MongoClient[dict[str, Any]] = MongoClient(
                uri,
                serverSelectionTimeoutMS=SERVER_SELECTION_MS,
                socketTimeoutMS=SOCKET_MS,
                appname="agentic-gpu-renter",
                w="majority",
                journal=True,
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
                raise StoreDown(
                    f"MongoDB did not answer ({type(error).__name__})",
                    "Check that it runs and that MONGODB_URI is right",
                ) from error
            return cls(saver, store)

        return await asyncio.to_thread(connect)

    async def prune(self, thread_id: str, newest: str, *, writes: bool) -> None:
        """Delete the thread's checkpoints before `newest`, and their pending writes if asked."""
        older = {"thread_id": thread_id, "checkpoint_id": {"$lt": newest}}
        await self._checkpoints.delete_all(older)
        if writes:
            await self._writes.delete_all(older)

    def close(self) -> None:
        self.saver.close()
