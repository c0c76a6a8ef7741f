"""The local stack: it starts what is missing, says where, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from domain.errors import ChainDown, ConfigError, DependencyDown
from server.config.settings import Settings
from server.local import mongodb as embedded
from server.local.mongodb import FolderLock
from server.local.running import Service, read_services, services_file
from server.local.stack import LocalStack, attach, reserved_port, services_lock, write_services
from tests.support.stack import NOWHERE, Document, VendorAdmin

FREE = {"chain_port": 0, "vendor_port": 0}
ELSEWHERE = SecretStr("http://127.0.0.1:1")


def taken_port() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen()
    return listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


async def answers(url: str, *, method: str = "GET", json: Document | None = None) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        return (await http.request(method, url, json=json)).status_code


def listens(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as client:
        return client.connect_ex((str(address.hostname), int(address.port or 0))) == 0


async def test_whatever_is_missing_is_started_and_can_be_attached_to(tmp_path: Path) -> None:
    asked = Settings(data_dir=tmp_path)

    async with LocalStack(asked, ephemeral=True, quick_stop=True) as stack:
        settings = stack.settings
        urls = [service.url for service in stack.services]

        assert [service.name for service in stack.services] == ["mongodb", "chain", "vendor"]
        assert settings.mongodb_uri is not None
        async with AsyncMongoClient[Document](settings.mongodb_uri.get_secret_value()) as client:
            assert (await client.admin.command("ping"))["ok"] == 1
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
        assert await answers(settings.chain_url, method="POST", json=call) == 200
        assert await answers(f"{settings.local_vendor_url}/quote", method="POST", json={}) == 401
        assert await attach(asked) == settings
        with pytest.raises(ConfigError, match=f"DATA_DIR: .* in use by process {os.getpid()}"):
            await LocalStack(asked, ephemeral=True).start()
        assert await attach(asked) == settings, "the refused one took nothing away"

    assert not services_file(tmp_path).exists()
    assert await attach(asked) is None
    assert not any(listens(url) for url in urls)


async def test_what_is_configured_is_not_started(tmp_path: Path) -> None:
    asked = Settings(data_dir=tmp_path / "none", mongodb_uri=NOWHERE, rpc_url=ELSEWHERE)

    async with LocalStack(asked) as stack:
        assert stack.settings == asked
        assert stack.services == []
        assert await attach(asked) == asked

    assert not (tmp_path / "none").exists()


async def test_only_mongodb_is_started_when_a_chain_is_configured(tmp_path: Path) -> None:
    asked = Settings(data_dir=tmp_path, rpc_url=ELSEWHERE)

    async with LocalStack(asked, quick_stop=True) as stack:
        assert [service.name for service in stack.services] == ["mongodb"]
        assert stack.settings.chain_url == "http://127.0.0.1:1"
        assert stack.settings.max_attempts == asked.max_attempts
        without_a_chain = Settings(data_dir=tmp_path)
        assert await attach(without_a_chain) is None


async def test_the_services_file_is_its_owners_alone_and_holds_no_secret(tmp_path: Path) -> None:
    asked = Settings(data_dir=tmp_path, rpc_url=SecretStr("http://u:topsecret@127.0.0.1:1"))

    async with LocalStack(asked, quick_stop=True):
        file = services_file(tmp_path)

        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "topsecret" not in file.read_text()
        assert read_services(tmp_path)["mongodb"].pid is not None


@pytest.mark.parametrize("variable", ["CHAIN_PORT", "VENDOR_PORT"])
async def test_a_port_in_use_is_named(tmp_path: Path, variable: str) -> None:
    with taken_port() as listener:
        ports = {**FREE, variable.lower(): port_of(listener)}
        asked = Settings(data_dir=tmp_path).completed(**ports)
        with pytest.raises(ConfigError) as caught:
            await LocalStack(asked).start()

    assert caught.value.variable == variable
    assert str(ports[variable.lower()]) in str(caught.value)
    assert f"set {variable}" in caught.value.remedy
    assert services_lock(Settings(data_dir=tmp_path)).held_by() is None


async def test_a_reserved_port_may_be_listened_on_by_the_service_it_is_for() -> None:
    with (
        reserved_port("CHAIN_PORT", 0) as port,
        socket.create_server(("127.0.0.1", port)) as server,
    ):
        assert port_of(server) == port


async def test_when_one_start_fails_those_already_started_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "PROGRAM", "no-such-program")

    with pytest.raises(ConfigError, match="embedded MongoDB is not installed"):
        await LocalStack(Settings(data_dir=tmp_path), ephemeral=True).start()

    assert services_lock(Settings(data_dir=tmp_path)).held_by() is None
    assert not services_file(tmp_path).exists()


async def test_a_chain_that_does_not_come_up_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "chain").write_text("not a folder")
    asked = Settings(data_dir=tmp_path, mongodb_uri=NOWHERE)

    with pytest.raises(
        ChainDown, match=r"Starting the local chain: it exited with status"
    ) as caught:
        await LocalStack(asked, ephemeral=True).start()

    assert "chain.log" in caught.value.remedy


async def test_a_vendor_that_does_not_come_up_is_quoted(tmp_path: Path) -> None:
    asked = Settings(data_dir=tmp_path, mongodb_uri=NOWHERE)
    stack = LocalStack(asked, ephemeral=True, vendor_options=("--no-such-option",))

    with pytest.raises(DependencyDown, match="--no-such-option"):
        await stack.start()


async def test_a_file_left_by_a_killed_owner_is_not_believed(tmp_path: Path) -> None:
    write_services(tmp_path, [Service("mongodb", "mongodb://127.0.0.1:1/", 1)])

    assert await attach(Settings(data_dir=tmp_path, rpc_url=ELSEWHERE)) is None


@pytest.mark.parametrize("content", ["", "[]", '{"services": [{}]}', '{"services": 1}', "\x00"])
async def test_a_damaged_services_file_counts_as_none(tmp_path: Path, content: str) -> None:
    services_file(tmp_path).write_text(content)

    assert read_services(tmp_path) == {}


async def test_a_service_that_no_longer_answers_is_not_attached_to(tmp_path: Path) -> None:
    asked = Settings(data_dir=tmp_path, rpc_url=ELSEWHERE)
    lock = services_lock(asked)
    await lock.acquire()
    write_services(tmp_path, [Service("mongodb", "mongodb://127.0.0.1:1/", 1)])

    assert await attach(asked) is None
    lock.release()


OWNER = """
import asyncio, sys
from pathlib import Path
from server.config.settings import Settings
from server.local.stack import LocalStack
async def main():
    stack = LocalStack(Settings(data_dir=Path(sys.argv[1])), ephemeral=True)
    await stack.start()
    print(*(service.url for service in stack.services), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def start_owner(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OWNER, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_after_a_kill_nothing_runs_on_and_the_folder_is_free(tmp_path: Path) -> None:
    asked = Settings(data_dir=tmp_path)
    with start_owner(tmp_path) as owner:
        assert owner.stdout is not None
        urls = (await asyncio.to_thread(owner.stdout.readline)).split()
        assert all(listens(url) for url in urls)
        assert await attach(asked) is not None
        owner.kill()

    for lock in (services_lock(asked), FolderLock(tmp_path / "mongo.lock")):
        await lock.acquire()  # their children hold them until they are gone
        lock.release()
    assert not any(listens(url) for url in urls)
    assert await attach(asked) is None


async def test_programs_that_are_started_do_not_get_our_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402_PRIVATE_KEY", "0xsecret")
    monkeypatch.setenv("VENDOR_FAULTS", "[]")
    settings = Settings(data_dir=tmp_path, fail_vendor_id="gpu_vendor_1")

    environment = LocalStack(settings)._environment()

    assert "X402_PRIVATE_KEY" not in environment
    assert environment["VENDOR_FAULTS"] == "[]"
    assert environment["FAIL_VENDOR_ID"] == "gpu_vendor_1"
    assert environment["GPU_VENDOR_SECRET"] == "local-vendor-secret"


async def test_the_fixtures_give_a_chain_and_a_vendor_with_its_admin_routes(
    chain_url: str, vendor_url: str, vendor_admin: VendorAdmin
) -> None:
    assert chain_url != vendor_url
    assert await vendor_admin.faults() == []
