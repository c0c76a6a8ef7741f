"""LangGraph's server, as `langgraph dev` starts it, over the test's own services."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from domain.money import Usd
from domain.quotes import Vendor
from ledger.ledger import Ledger
from mock_vendor.accounts import dev_address
from server.config.settings import Settings
from server.studio.graph import Office, build
from server.wiring import Services
from tests.conftest import ROOT
from tests.support.builders import NOON
from tests.support.stack import FreshDatabase

START_S: Final = 90.0
PARTS: Final = (
    "domain",
    "graph",
    "ledger",
    "server",
    "tools",
    "langgraph.json",
    "pyproject.toml",
)


def studio_graph(services: Services) -> Any:
    """Studio's graph over services that are open already."""

    class Opened(Office):
        async def services(self) -> Services:
            return services

    return build(Opened(), services.checkpoints.saver)


@asynccontextmanager
async def studio(
    folder: Path, database: FreshDatabase, services: Settings, port: int, **settings: str
) -> AsyncIterator[int]:
    """`langgraph dev` as a child, killed with SIGKILL in the end. Yields its process id.

    folder: where it runs. settings: more variables of its environment.
    """
    for name in PARTS:
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    env = {
        **os.environ,
        "MONGODB_URI": database.uri,
        "MONGODB_DB_NAME": database.name,
        "RPC_URL": services.chain_url,
        "NO_COLOR": "1",
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "no_proxy": "127.0.0.1",
        **settings,
    }
    command = [
        *(sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"),
        *("--host", "127.0.0.1", "--port", str(port), "--config", str(folder / "langgraph.json")),
    ]
    with (folder / "studio.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        await _answers(port, folder / "studio.log")
        yield child.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


async def _answers(port: int, log: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(START_S):
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/ok")).status_code == 200:
                    return
            except httpx.TransportError:
                words = await asyncio.to_thread(log.read_text)
                assert "Traceback" not in words, words
            await asyncio.sleep(0.1)


@asynccontextmanager
async def client_of(port: int, key: str = "") -> AsyncIterator[LangGraphClient]:
    """LangGraph's own client."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with get_client(url=f"http://127.0.0.1:{port}", headers=headers) as client:
        yield client


async def say(client: LangGraphClient, thread: str, text: str) -> str:
    """One chat message, and the agent's answer.

    The server forgets a thread that it made just before it was killed; its checkpoints are kept.
    """
    given: Any = {"messages": [{"role": "user", "content": text}]}
    values: Any = await client.runs.wait(thread, "agent", input=given, if_not_exists="create")
    assert "__error__" not in values, values
    return str(values["messages"][-1]["content"])


async def register_vendor(ledger: Ledger, services: Settings) -> None:
    """Put the mock vendor into the registry."""
    vendor = Vendor(
        vendor_id="gpu_vendor_1",
        name="FastGPU",
        endpoint=services.local_vendor_url,
        price_per_hour=Usd.parse("1.4"),
        reliability=0.9,
        gpu_types=("A100",),
        pay_to=dev_address("gpu_vendor_1"),
        secret_env="GPU_VENDOR_SECRET",
    )
    await ledger.vendors.put(vendor, NOON)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
