"""What the doctor looks at around the agent, and what it says to do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr

from domain.errors import ChainDown, ConfigError, DependencyDown
from domain.quotes import Vendor
from graph.deps import Deps
from server.config.settings import Settings
from server.doctor import checks as doctor
from server.doctor import surroundings as around
from server.wiring import open_vendors
from tests.support.builders import a_vendor
from tests.support.memory_chain import MemoryChain
from tests.support.served import free_ports
from tests.support.world import AGENT
from tests.tools.test_chain import Restricted
from tools.payments.chain import Block
from tools.wire import clients

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


@dataclass(frozen=True)
class ChainAt:
    """A chain whose newest block is `age_s` old; negative: of the future."""

    age_s: int

    async def head(self) -> Block:
        return Block(1, int(NOW.timestamp()) - self.age_s)


def deps_with(**given: Any) -> Deps:
    return cast(Deps, SimpleNamespace(now=lambda: NOW, **given))


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """A TCP service that says one thing to whatever it is sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_folder_that_takes_files_is_fine_before_it_exists(tmp_path: Path) -> None:
    assert "takes files" in await around.disk(Settings(data_dir=tmp_path / "not" / "yet"))


async def test_a_folder_that_takes_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"DATA_DIR.*cannot be written"):
        await around.disk(Settings(data_dir=tmp_path / "file" / "data"))


async def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 1024**2))

    with pytest.raises(ConfigError, match="100 MiB are free"):
        await around.disk(Settings(data_dir=tmp_path))


async def test_a_file_with_secrets_that_others_may_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(data_dir=Path("data"))
    assert "no file" in await around.secrets_at_rest(settings)
    (tmp_path / "data" / "mongo").mkdir(parents=True)
    files = [
        tmp_path / ".env",
        tmp_path / "wallet.key",
        tmp_path / "data" / "mongo.password",
        tmp_path / "data" / "mongo" / "password",
    ]
    for file in [*files, tmp_path / ".env.example"]:
        file.write_text("x")
        file.chmod(0o644)
    (tmp_path / "data" / "mongo" / "unique_keys.wt").touch(0o644)

    (tmp_path / "data").chmod(0o700)
    with pytest.raises(ConfigError) as caught:
        await around.secrets_at_rest(settings)
    assert caught.value.remedy == "Run: chmod 600 .env wallet.key", "nobody else enters data/"
    (tmp_path / "data").chmod(0o755)

    for left in range(len(files), 0, -1):
        with pytest.raises(ConfigError, match="other users") as caught:
            await around.secrets_at_rest(settings)
        assert caught.value.remedy.startswith("Run: chmod 600 ")
        assert len(caught.value.remedy.split()) == left + 3
        assert ".example" not in str(caught.value)
        files[left - 1].chmod(0o600)

    assert "only their owner reads .env, wallet.key" in await around.secrets_at_rest(settings)


@pytest.mark.parametrize(
    ("age_s", "local", "wrong"),
    [
        (2, False, ""),
        (-2, False, ""),
        (-300, False, "300 s behind"),
        (-300, True, "300 s behind"),
        (300, False, "300 s old by this machine's clock"),
        (300, True, ""),
    ],
)
async def test_a_clock_that_is_not_the_chains_is_told(age_s: int, local: bool, wrong: str) -> None:
    deps = deps_with(chain=ChainAt(age_s))
    if not wrong:
        assert "newest block" in await around.clock(deps, local=local)
        return

    with pytest.raises(ConfigError, match=wrong) as caught:
        await around.clock(deps, local=local)

    assert "timedatectl" in caught.value.remedy


async def test_a_queue_that_is_away_is_named_without_its_password() -> None:
    port = free_ports(1)[0]
    settings = Settings(task_broker_url=SecretStr(f"redis://agent:hunter2@127.0.0.1:{port}/0"))

    with pytest.raises(DependencyDown) as caught:
        await around.queue(settings)

    assert f"TASK_BROKER_URL: nothing answers at 127.0.0.1:{port}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_queue_that_refuses_is_told_from_one_that_is_away() -> None:
    async with answering(b"-NOAUTH Authentication required.\r\n") as port:
        settings = Settings(task_broker_url=SecretStr(f"redis://127.0.0.1:{port}/0"))

        with pytest.raises(DependencyDown, match="refuses") as caught:
            await around.queue(settings)

    assert "password" in caught.value.remedy


async def test_collectors_and_webhooks_are_reached_and_sent_nothing() -> None:
    received: list[bytes] = []
    both = asyncio.Event()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()
        if len(received) == 2:
            both.set()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?token=hunter2"
        secret = SecretStr("whsec_" + "A" * 32)
        told = await around.webhooks(Settings(webhook_url=url, webhook_secret=secret))
        traced = await around.traces(Settings(otel_exporter_otlp_endpoint=url))
        await asyncio.wait_for(both.wait(), 10)

    assert received == [b"", b""]
    assert "hunter2" not in told + traced


async def test_an_address_without_a_key_is_for_this_machine_only() -> None:
    class NoKeys:
        async def any_in_force(self) -> bool:
            return False

    deps = deps_with(ledger=SimpleNamespace(keys=NoKeys()))

    assert "only this machine" in await around.exposure(deps, Settings())
    with pytest.raises(ConfigError, match="HOST"):
        await around.exposure(deps, Settings(host="0.0.0.0"))


async def test_what_is_around_is_looked_at_before_anything_runs(tmp_path: Path) -> None:
    env = {
        "DATA_DIR": str(tmp_path),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_ports(1)[0]}",
    }
    found = {check.name: check async for check in doctor.examine(env)}

    assert found["disk"].state == "ok"
    assert found["traces"].state == "wrong"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in found["traces"].finding
    assert found["local services"].state == "skipped"


class Registry:
    """A registry of these vendors."""

    def __init__(self, *vendors: Vendor, undecided: tuple[str, ...] = ()) -> None:
        self._vendors, self._undecided = list(vendors), list(undecided)

    async def all(self) -> list[Vendor]:
        return self._vendors

    async def without_secret_env(self) -> list[str]:
        return self._undecided


async def test_vendors_without_a_secret_of_their_own_are_named_and_no_other_is() -> None:
    settings = Settings(
        vendor_secrets={f"GPU_VENDOR_SECRET_{n}": SecretStr("the-same-text") for n in "BC"}
    )
    asked: list[str] = []

    def quoting(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["x-vendor-id"])
        return httpx.Response(
            200,
            json={
                "vendorJobTemplateId": "t",
                "priceEstimate": 1,
                "currency": "USD",
                "etaMinutes": 5,
            },
        )

    def at(vendor_id: str, secret_env: str | None) -> Vendor:
        endpoint = f"http://{vendor_id}.test"
        return a_vendor(vendor_id, endpoint=endpoint, secret_env=secret_env)

    registry = Registry(
        at("gpu_vendor_1", "GPU_VENDOR_SECRET"),
        at("older", None),
        at("one", "GPU_VENDOR_SECRET_B"),
        at("two", "GPU_VENDOR_SECRET_C"),
        at("unset", "GPU_VENDOR_SECRET_D"),
        at("thief", "X402_PRIVATE_KEY"),
        at("open", None),
        undecided=("older",),
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(quoting)) as http:
        deps = deps_with(
            ledger=SimpleNamespace(vendors=registry), vendors=open_vendors(settings, http)
        )
        found = {check.name: check async for check in doctor._vendors(deps, settings)}

    told = {
        name.removeprefix("vendor "): check.finding
        for name, check in found.items()
        if check.state == "wrong"
    }
    assert set(told) == {"older", "one", "two", "unset", "thief"}
    assert "does not say which secret" in told["older"]
    assert "the same secret as two" in told["one"]
    assert "GPU_VENDOR_SECRET_D is not set" in told["unset"]
    assert "no vendor's secret" in told["thief"]
    assert all(found[f"vendor {name}"].remedy for name in told)
    assert sorted(asked) == ["gpu_vendor_1", "open"]


@pytest.mark.parametrize(("most", "wrong"), [(10_000, ""), (0, "eth_getLogs")])
async def test_an_rpc_without_logs_or_of_another_chain_is_told(
    monkeypatch: pytest.MonkeyPatch, most: int, wrong: str
) -> None:
    chain = MemoryChain(lambda: NOW.timestamp())
    chain.mint(AGENT, 1)

    @asynccontextmanager
    async def client() -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(Restricted(chain, most))
        ) as http:
            yield http

    monkeypatch.setattr(clients, "open_client", client)
    settings = Settings(rpc_url=SecretStr("http://rpc.test"))
    if not wrong:
        assert "serves logs" in await doctor._chain(settings, AGENT)
        chain.chain_id = 5
        with pytest.raises(ConfigError, match="serves chain 5"):
            await doctor._chain(settings, AGENT)
        return
    with pytest.raises(ChainDown, match=wrong):
        await doctor._chain(settings, AGENT)
