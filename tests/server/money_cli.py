"""`gpu-renter` in this process, on a database of its own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from ledger.ledger import Ledger
from ledger.store import Store
from server import cli
from tests.support.stack import run_apart

T = TypeVar("T")
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class MoneyCli:
    """The command line, and the database that it works on."""

    capsys: pytest.CaptureFixture[str]
    uri: str
    db: Database[Document]

    def __call__(self, *arguments: str) -> Ran:
        self.capsys.readouterr()
        status = cli.run(list(arguments))
        said = self.capsys.readouterr()
        return Ran(status, said.out, said.err)

    def with_ledger(self, work: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives for the ledger."""

        async def open_and_work() -> T:
            store = Store.open(self.uri, self.db.name)
            try:
                ledger = Ledger.over(store)
                await ledger.ensure_indexes()
                return await work(ledger)
            finally:
                await store.close()

        return run_apart(open_and_work())


@contextmanager
def money_cli(
    uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MoneyCli]:
    name = f"test_{uuid.uuid4().hex}"
    monkeypatch.setenv("MONGODB_URI", uri)
    monkeypatch.setenv("MONGODB_DB_NAME", name)
    monkeypatch.setenv("COLUMNS", "200")
    with MongoClient[Document](uri, tz_aware=True) as client:
        yield MoneyCli(capsys, uri, client[name])
        client.drop_database(name)
