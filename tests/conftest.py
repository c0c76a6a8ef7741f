"""Fixtures for every test.

    mongodb_uri          a MongoDB: TEST_MONGODB_URI, else an embedded one     once per worker
    database             an empty database, its name and a client              per test
    chain_url            the local chain's JSON-RPC address                    once per worker
    vendor_url           the mock vendor's address, on that chain              once per worker
    vendor_admin         its test routes; faults are cleared afterwards        per test

No test sees the developer's settings: the variables are cleared below, and each test runs in an
empty folder of its own, where there is no `.env`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from pymongo import AsyncMongoClient

from server.config.settings import Settings, variables
from tests.support.stack import (
    Document,
    FreshDatabase,
    VendorAdmin,
    chain_and_vendor,
    embedded_mongo,
    quick_folder,
    vendor_client,
)

settings.register_profile("ours", deadline=None)  # a busy machine is no failure
settings.load_profile("ours")

ROOT = Path(__file__).resolve().parent.parent

# tests/live asks a real model where it is given one; it is all that may.
LIVE = {n: v for n, v in os.environ.items() if n.startswith("FIREWORKS_") and v.strip()}
for _name in list(os.environ):
    if _name in variables() or _name.startswith(("LANGSMITH_", "LANGCHAIN_", "X402_", "CDP_")):
        del os.environ[_name]
os.environ["GPU_RENTER_URL"] = "http://127.0.0.1:1"  # no server of this machine is a test's own
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["DISABLE_CDP_USAGE_TRACKING"] = "true"
os.environ["DISABLE_CDP_ERROR_REPORTING"] = "true"
# Programs that tests start find our packages from any folder.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    configured = os.environ.get("TEST_MONGODB_URI")
    if configured:
        yield configured
        return
    with quick_folder("mongo") as folder, embedded_mongo(folder) as uri:
        yield uri


@pytest.fixture
async def database(mongodb_uri: str) -> AsyncIterator[FreshDatabase]:
    name = f"test_{uuid.uuid4().hex}"
    async with AsyncMongoClient[Document](mongodb_uri, tz_aware=True) as client:
        yield FreshDatabase(mongodb_uri, name, client)
        await client.drop_database(name)


@pytest.fixture(scope="session")
def local_services() -> Iterator[Settings]:
    """Settings that say where the local chain and the mock vendor answer."""
    with quick_folder("services") as folder, chain_and_vendor(folder) as settings:
        yield settings


@pytest.fixture(scope="session")
def chain_url(local_services: Settings) -> str:
    return local_services.chain_url


@pytest.fixture(scope="session")
def vendor_url(local_services: Settings) -> str:
    return local_services.local_vendor_url


@pytest.fixture
async def vendor_admin(vendor_url: str) -> AsyncIterator[VendorAdmin]:
    async with vendor_client(vendor_url) as http:
        admin = VendorAdmin(http)
        await admin.clear_faults()
        yield admin
        await admin.clear_faults()
