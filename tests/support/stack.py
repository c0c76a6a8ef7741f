"""What the fixtures start: a MongoDB, a local chain, a mock vendor, each once per test process."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from server.config.settings import LOCAL_VENDOR_SECRET, Settings
from server.local.mongodb import EmbeddedMongo
from server.local.stack import LocalStack
from tools.wire.clients import open_client

Document = dict[str, Any]
T = TypeVar("T")
ROOM_IN_MEMORY: Final = 2 * 1024**3
"""Bytes free, of which a MongoDB uses a part."""
NOWHERE: Final = SecretStr("mongodb://127.0.0.1:1")


@dataclass(frozen=True, slots=True)
class FreshDatabase:
    """An empty database that one test has to itself."""

    uri: str
    name: str
    client: AsyncMongoClient[Document]

    @property
    def db(self) -> AsyncDatabase[Document]:
        return self.client[self.name]


@dataclass(frozen=True, slots=True)
class VendorAdmin:
    """The mock vendor's test routes."""

    http: httpx.AsyncClient

    async def set_faults(self, *faults: dict[str, Any]) -> None:
        """Have these faults, and no others, in force."""
        await self._call("PUT", "/admin/faults", {"faults": list(faults)})

    async def clear_faults(self) -> None:
        await self._call("DELETE", "/admin/faults")

    async def faults(self) -> list[dict[str, Any]]:
        return list((await self._call("GET", "/admin/faults"))["faults"])

    async def settle_held(self) -> Any:
        """Settle the payments that a fault holds back; say which."""
        return (await self._call("POST", "/admin/settle-held"))["settled"]

    async def _call(self, method: str, path: str, body: Document | None = None) -> Document:
        answer = await self.http.request(method, path, json=body)
        answer.raise_for_status()
        return dict(answer.json())


def vendor_client(url: str) -> httpx.AsyncClient:
    """A client that the mock vendor lets in, however the machine's proxies are set."""
    headers = {"Authorization": f"Bearer {LOCAL_VENDOR_SECRET}"}
    return open_client(base_url=url, headers=headers, timeout=30, trust_env=False)


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop and a thread of its own, whatever runs on this one."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@contextmanager
def quick_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder, in memory where the system has room there.

    For a store that is not to outlive anything: what a crash leaves is tested on a disk.
    """
    shm = Path("/dev/shm")
    roomy = os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > ROOM_IN_MEMORY
    with tempfile.TemporaryDirectory(dir=shm if roomy else None, prefix=prefix) as folder:
        yield Path(folder)


@contextmanager
def embedded_mongo(folder: Path) -> Iterator[str]:
    """An embedded MongoDB, for as long as the block runs. Yields its URI."""
    mongo = EmbeddedMongo(folder, grace_s=0, password=False)  # one handshake less for each test
    run_apart(mongo.start())
    try:
        yield mongo.uri
    finally:
        run_apart(mongo.stop())


@contextmanager
def chain_and_vendor(folder: Path) -> Iterator[Settings]:
    """A local chain and a mock vendor whose jobs fail only when a fault says so.

    Yields settings that say where they answer; their MongoDB leads nowhere.
    """
    asked = Settings(data_dir=folder, mongodb_uri=NOWHERE, fail_rate=0.0)
    stack = LocalStack(asked, ephemeral=True, vendor_options=("--admin",))
    settings = run_apart(stack.start())
    try:
        yield settings
    finally:
        run_apart(stack.stop())
