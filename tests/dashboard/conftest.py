"""A server that is really served, and a browser that really looks at it; once for each process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from ledger.ledger import Ledger
from ledger.store import Store
from server.local.mongodb import with_password
from server.local.running import services_file
from tests.dashboard.browser import chromium, launched
from tests.support.served import Served

SETTINGS = {
    "FAIL_VENDOR_ID": "gpu_vendor_1",
    "APPROVAL_THRESHOLD_USD": "1",
    "MAX_EXPOSURE_USD": "100",
}
"""FastGPU at $1.40 fails part-way, ReliableGPU at $1.80 does not; each needs a person's yes."""


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    chromium()
    with Served(tmp_path_factory.mktemp("dashboard"), SETTINGS) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(served: Served) -> AsyncIterator[Ledger]:
    """The server's own ledger."""
    address = with_password(service(served, "mongodb")["url"], served.folder / ".gpu-renter")
    store = Store.open(address, "agentic_gpu_renter")
    yield Ledger.over(store)
    await store.close()


def service(served: Served, name: str) -> dict[str, Any]:
    """What the server has noted of a service that it started."""
    noted = json.loads(services_file(served.folder / ".gpu-renter").read_text())["services"]
    return next(dict(s) for s in noted if s["name"] == name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser
