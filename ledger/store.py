"""The connection to MongoDB, and the few operations that the ledger is made of.

Every write is majority-acknowledged and journaled before it returns. Every read is of the primary
and of what a majority holds, for a decision about money must not be made on a stale copy. Nothing
in MONGODB_URI changes either (`PINNED`).

Every change is guarded: it names the document by `_id` and the state it expects, and says whether
it applied (find-and-modify commands are avoided: the embedded server scans the collection for them,
as it does for a guard or a query with `$or`; `{"$not": {"$gt": …}}` says "absent, or at most" as
well).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from pymongo import AsyncMongoClient, IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.errors import InvalidURI as PyMongoInvalidURI
from pymongo.read_concern import ReadConcern

from domain.errors import ConfigError, StoreDown

Document = dict[str, Any]
Query = Mapping[str, Any]

SERVER_SELECTION_MS: Final = 5_000
SOCKET_MS: Final = 20_000
PINNED: Final[Mapping[str, Any]] = {
    "read_preference": ReadPreference.PRIMARY,
    "read_concern": ReadConcern("majority"),
    "write_concern": WriteConcern(w="majority", j=True),
}
"""How each database and collection is opened, whatever MONGODB_URI says. The embedded server takes
all three.
"""
_NO_SUCH_INDEX: Final = 27


class DuplicateKey(Exception):
    """A unique index already holds one of the inserted documents. Never leaves the ledger."""


def field_name(text: str) -> str:
    """`text` as a field name: dots and dollars mean something else there."""
    return text.replace("%", "%25").replace(".", "%2E").replace("$", "%24")


def field_text(name: str) -> str:
    """The text that `field_name` made this name of."""
    return name.replace("%24", "$").replace("%2E", ".").replace("%25", "%")


class Documents:
    """One collection. Each method is one command to the server and one effect."""

    def __init__(self, collection: AsyncCollection[Document]) -> None:
        self._collection = collection
        self.name = collection.name

    async def insert(self, document: Query) -> bool:
        """Insert, or return False when the `_id` exists already."""
        try:
            async with _translated():
                await self._collection.insert_one(dict(document))
        except DuplicateKey:
            return False
        return True

    async def insert_all(self, documents: Sequence[Query]) -> None:
        """Insert in order. Raises DuplicateKey at the first that exists; those before it stay."""
        ours = [dict(d) for d in documents]
        async with _translated():
            if len(ours) == 1:  # the usual case, and the cheaper command
                await self._collection.insert_one(ours[0])
            else:
                await self._collection.insert_many(ours, ordered=True)

    async def change(self, id_: str, guard: Query, update: Query) -> bool:
        """Apply `update` to the document `id_` if `guard` holds; say whether it matched."""
        async with _translated():
            result = await self._collection.update_one({"_id": id_, **guard}, dict(update))
        return result.matched_count == 1

    async def change_all(self, query: Query, update: Query) -> int:
        """Apply `update` to every document that matches; how many did."""
        async with _translated():
            return (await self._collection.update_many(dict(query), dict(update))).matched_count

    async def put(self, id_: str, fields: Query, on_insert: Query) -> None:
        """Set `fields` on the document `id_`; make it with `on_insert` where there is none."""
        update = {"$set": dict(fields), "$setOnInsert": dict(on_insert)}
        async with _translated():
            await self._collection.update_one({"_id": id_}, update, upsert=True)

    async def delete(self, id_: str) -> bool:
        async with _translated():
            return (await self._collection.delete_one({"_id": id_})).deleted_count == 1

    async def delete_all(self, query: Query) -> None:
        async with _translated():
            await self._collection.delete_many(dict(query))

    async def get(self, id_: str) -> Document | None:
        async with _translated():
            return await self._collection.find_one({"_id": id_})

    async def find(
        self,
        query: Query,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        fields: Query | None = None,
    ) -> list[Document]:
        async with _translated():
            cursor = self._collection.find(dict(query), fields, limit=limit)
            if sort:
                cursor = cursor.sort(list(sort))
            return await cursor.to_list()

    async def aggregate(self, pipeline: Sequence[Query]) -> list[Document]:
        async with _translated():
            return await (await self._collection.aggregate(list(pipeline))).to_list()

    async def inserts(self) -> AsyncGenerator[Document]:
        """Documents as they are inserted, from now on. Raises StoreDown where the server has no
        change streams (one that stands alone has none).
        """
        only = [{"$match": {"operationType": "insert"}}]
        async with (
            _translated(),
            await self._collection.watch(only, max_await_time_ms=1000) as stream,
        ):
            async for change in stream:
                yield change["fullDocument"]

    async def drop_index(self, name: str) -> None:
        """Drop an index, where it is there."""
        async with _translated():
            if name not in await self._collection.index_information():
                return
            try:
                await self._collection.drop_index(name)
            except OperationFailure as error:
                if error.code != _NO_SUCH_INDEX:  # another process was faster
                    raise

    async def ensure_indexes(self, indexes: Sequence[IndexModel]) -> None:
        async with _translated():
            await self._collection.create_indexes(list(indexes))


class Store:
    """A database, with its collections. Open with `Store.open`, close with `close`."""

    def __init__(self, client: AsyncMongoClient[Document], database: str) -> None:
        self._client = client
        self._database = client.get_database(database, **PINNED)

    @classmethod
    def open(cls, uri: str, database: str, **options: Any) -> Store:
        """A store at `uri`. Connects at the first command, not here.

        Raises ConfigError for a malformed uri, without repeating it: it may hold a password.
        """
        try:
            client: AsyncMongoClient[Document] = AsyncMongoClient(
                uri,
                serverSelectionTimeoutMS=SERVER_SELECTION_MS,
                socketTimeoutMS=SOCKET_MS,
                tz_aware=True,
                appname="agentic-gpu-renter",
                **options,
            )
        except (PyMongoInvalidURI, ConfigurationError, ValueError) as error:
            raise ConfigError(
                "MONGODB_URI", "it is not a MongoDB address", "Use mongodb://… or mongodb+srv://…"
            ) from error
        return cls(client, database)

    def documents(self, collection: str) -> Documents:
        return Documents(self._database[collection])

    async def ping(self) -> None:
        """Raises StoreDown unless the server answers."""
        async with _translated():
            await self._database.command("ping", read_preference=ReadPreference.PRIMARY)

    async def time(self) -> datetime:
        """The server's clock. Raises StoreDown."""
        async with _translated():
            answer = await self._database.command(
                "hello",
                read_preference=ReadPreference.PRIMARY,
                codec_options=self._database.codec_options,
            )
        at: datetime = answer["localTime"]
        return at

    async def close(self) -> None:
        await self._client.close()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except DuplicateKeyError as error:
        raise DuplicateKey from error
    except BulkWriteError as error:
        if any(e.get("code") == 11000 for e in error.details.get("writeErrors", [])):
            raise DuplicateKey from error
        raise store_down(error) from error
    except PyMongoError as error:
        raise store_down(error) from error


_AFTER_EVERY_ID: Final = "{"
"""Comes after every letter and digit that an id is made of."""


def beginning_with(prefix: str) -> Query:
    """The condition on `_id` that it begins with `prefix`."""
    return {"$gte": prefix, "$lt": prefix + _AFTER_EVERY_ID}


def store_down(error: PyMongoError) -> StoreDown:
    """What an error of the driver means to a person; never its text, which may hold anything."""
    if isinstance(error, OperationFailure):
        return StoreDown(
            f"MongoDB refused a command (code {error.code})",
            "See its log, and whether MONGODB_URI's user may read and write; nothing was lost",
        )
    return StoreDown(
        f"MongoDB did not answer ({type(error).__name__})",
        "Check that it runs and that MONGODB_URI is right; nothing was lost, try again",
    )
