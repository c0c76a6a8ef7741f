"""What a process of the agent holds open to MongoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from pymongo.monitoring import CommandListener

from graph.persistence.checkpoints import Checkpoints, RunSaver
from ledger.store import Store
from tests.support.stack import FreshDatabase


@dataclass(frozen=True, slots=True)
class Connections:
    """The ledger's connection and the saver's. Neither knows anything of a run."""

    store: Store
    saver: RunSaver

    @classmethod
    @asynccontextmanager
    async def open(
        cls, database: FreshDatabase, listeners: Sequence[CommandListener] = ()
    ) -> AsyncIterator[Self]:
        options: dict[str, Any] = {"event_listeners": list(listeners)}
        store = Store.open(database.uri, database.name, **options)
        checkpoints = await Checkpoints.open(database.uri, database.name, store, **options)
        try:
            yield cls(store, checkpoints.saver)
        finally:
            checkpoints.close()
            await store.close()
