"""The store that a command works on, whoever has it open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.store import Store
    from server.config.settings import Settings


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[tuple[Store, Settings]]:
    """The store of a running `serve`, of MONGODB_URI, or of the embedded MongoDB meanwhile; and
    the settings, completed with what a running `serve` has started on this DATA_DIR.
    """
    from ledger.store import Store
    from server.local.mongodb import EmbeddedMongo
    from server.local.stack import attach

    async with AsyncExitStack() as stack:
        reached = await attach(settings) or settings
        if reached.mongodb_uri is None:
            mongo = EmbeddedMongo(settings.data_dir, grace_s=0)
            await stack.enter_async_context(mongo)
            uri = mongo.uri
        else:
            uri = reached.mongodb_uri.get_secret_value()
        store = Store.open(uri, settings.mongodb_db_name)
        stack.push_async_callback(store.close)
        yield store, reached
