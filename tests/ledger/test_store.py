"""The connection to MongoDB: what decides about money is read from the primary, as most have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern

from graph.persistence.checkpoints import PinnedClient
from graph.persistence.transcripts import Transcripts
from ledger.store import Store
from tests.support.stack import FreshDatabase

ELSEWHERE = (
    "readPreference=secondary&readPreferenceTags=dc:other&maxStalenessSeconds=120"
    "&readConcernLevel=local&w=0"
)


class Heard(CommandListener):
    """The commands that a client sends."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        self.commands.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@pytest.fixture
def address(mongodb_uri: str) -> str:
    """Of the same MongoDB, with all that an address can say against careful reads and writes."""
    joint = "&" if "?" in mongodb_uri else "/?"
    return f"{mongodb_uri}{joint}{ELSEWHERE}"


@pytest.fixture
def client(address: str) -> Iterator[MongoClient[Any]]:
    with PinnedClient(address) as opened:
        yield opened


async def test_no_address_makes_the_ledger_read_a_stale_copy_or_write_unheard(
    database: FreshDatabase, address: str
) -> None:
    heard = Heard()
    store = Store.open(address, database.name, event_listeners=[heard])
    try:
        await store.ping()
        things = store.documents("things")
        assert await things.insert({"_id": "a"})
        assert await things.change("a", {}, {"$set": {"n": 1}})
        assert await things.find({"n": 1})
        assert await things.aggregate([{"$match": {"n": 1}}])
    finally:
        await store.close()
    by_name = {next(iter(command)): command for command in heard.commands}
    for name in ("insert", "update"):
        assert by_name[name]["writeConcern"] == {"w": "majority", "j": True}
    for name in ("find", "aggregate"):
        assert by_name[name]["readConcern"] == {"level": "majority"}
    for command in heard.commands:
        assert command.get("$readPreference", {}).get("mode") != "secondary"


def test_checkpoints_are_read_and_written_as_the_ledger_is(
    database: FreshDatabase, client: MongoClient[Any]
) -> None:
    collection = client[database.name]["checkpoints"]
    assert collection.read_preference == ReadPreference.PRIMARY
    assert collection.read_concern == ReadConcern("majority")
    assert collection.write_concern == WriteConcern(w="majority", j=True)


async def test_transcripts_are_read_and_written_as_the_ledger_is(
    database: FreshDatabase, client: MongoClient[Any]
) -> None:
    history = Transcripts(client, database.name)._history("run:run_1")
    assert history.collection.read_preference == ReadPreference.PRIMARY
    assert history.collection.write_concern == WriteConcern(w="majority", j=True)
