"""The embedded MongoDB: durable, one per folder, and clear about what is missing."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.errors import OperationFailure

from domain.errors import ConfigError, StoreDown
from server.local import mongodb as embedded
from server.local.mongodb import EmbeddedMongo, FolderLock
from tests.support.stack import Document, FreshDatabase

WRITER = """
import asyncio, sys
from pathlib import Path
from pymongo import AsyncMongoClient, WriteConcern
from server.local.mongodb import EmbeddedMongo
async def main():
    mongo = EmbeddedMongo(Path(sys.argv[1]))
    uri = await mongo.start()
    print(mongo.pid, flush=True)
    collection = AsyncMongoClient(uri).crash.get_collection(
        "documents", write_concern=WriteConcern("majority", j=True)
    )
    number = int(sys.argv[2])
    while True:
        await collection.insert_one({"_id": number})
        print(number, flush=True)
        number += 1
asyncio.run(main())
"""


def start_writer(folder: Path, first: int) -> subprocess.Popen[str]:
    """A process that owns an embedded MongoDB and prints each acknowledged document's id."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first)], stdout=subprocess.PIPE, text=True
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def command_lines() -> str:
    """Of every process of this machine, as anybody may read them."""
    listing = ["ps", "-A", "-o", "args="]
    return subprocess.run(listing, capture_output=True, text=True, check=True).stdout


async def stored(uri: str) -> set[int]:
    async with AsyncMongoClient[Document](uri) as client:
        return {d["_id"] async for d in client.crash.documents.find()}


async def test_acknowledged_documents_survive_when_everything_is_killed(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for victim in ("the owner", "the owner and the guard"):
        first = max(acknowledged, default=-1) + 2  # one write may have been under way
        with start_writer(tmp_path, first) as writer:
            guard = int(read_line(writer))
            for _ in range(150):
                acknowledged.add(int(read_line(writer)))
            if victim != "the owner":
                os.kill(guard, signal.SIGKILL)
            writer.kill()
            assert writer.stdout is not None
            acknowledged.update(int(n) for n in writer.stdout.read().split("\n")[:-1])

    async with EmbeddedMongo(tmp_path, grace_s=0) as mongo:
        assert acknowledged <= await stored(mongo.uri)
    assert len(acknowledged) >= 300


async def test_pymongo_works_as_with_a_real_server(database: FreshDatabase) -> None:
    """Retryable writes, majority and journaled write concern, a transaction, a unique index."""
    concern = WriteConcern("majority", j=True)
    collection = database.db.get_collection("things", write_concern=concern)
    await collection.create_index("name", unique=True)

    async with AsyncMongoClient[Document](database.uri, retryWrites=True) as client:
        things = client[database.name].get_collection("things", write_concern=concern)
        await things.insert_one({"_id": 1, "name": "a", "n": 0})
        async with client.start_session() as session, await session.start_transaction():
            await things.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        guarded = await things.update_one({"_id": 1, "n": 0}, {"$inc": {"n": 1}})

    assert guarded.modified_count == 0
    assert await collection.find_one({"_id": 1}) == {"_id": 1, "name": "a", "n": 1}


async def test_a_second_process_is_refused_and_told_who_has_the_folder(tmp_path: Path) -> None:
    with start_writer(tmp_path, 0) as owner:
        read_line(owner)
        with pytest.raises(ConfigError) as caught:
            await EmbeddedMongo(tmp_path).start()
        owner.kill()

    assert caught.value.variable == "DATA_DIR"
    assert f"in use by process {owner.pid}" in str(caught.value)
    assert "set DATA_DIR" in caught.value.remedy


async def test_start_and_stop_may_be_repeated_and_a_killed_server_starts_again(
    tmp_path: Path,
) -> None:
    mongo = EmbeddedMongo(tmp_path, grace_s=0)
    assert await mongo.start() == await mongo.start() == mongo.uri
    async with AsyncMongoClient[Document](mongo.uri) as client:
        await client.crash.documents.insert_one({"_id": 1})
    await mongo.stop()  # without a grace, this is a SIGKILL
    await mongo.stop()
    assert (mongo.uri, mongo.pid) == ("", None)

    await mongo.start()

    assert await stored(mongo.uri) == {1}
    await mongo.stop()


async def test_who_has_no_password_reads_and_writes_nothing(tmp_path: Path) -> None:
    async with EmbeddedMongo(tmp_path, grace_s=0) as mongo:
        await stored(mongo.uri)
        wrong = mongo.address.replace("mongodb://", f"mongodb://{embedded.USER}:guessed@")
        for address in (mongo.address, wrong):
            async with AsyncMongoClient[Document](address) as client:
                for attempt in (
                    client.crash.documents.find_one({}),
                    client.crash.documents.insert_one({}),
                    client.admin.command("createUser", "me", pwd="me", roles=["root"]),
                ):
                    with pytest.raises(OperationFailure) as refused:
                        await attempt
                    assert refused.value.code in (13, 18)  # Unauthorized, AuthenticationFailed
        password = (tmp_path / embedded.PASSWORD_FILE).read_text()
        shown = await asyncio.to_thread(command_lines)
        logged = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
        assert password in mongo.uri
        assert password not in shown + logged + mongo.address
        assert stat.S_IMODE((tmp_path / embedded.PASSWORD_FILE).stat().st_mode) == 0o600


async def test_data_from_before_there_was_a_password_are_kept_and_strangers_are_not(
    tmp_path: Path,
) -> None:
    async with (
        EmbeddedMongo(tmp_path, grace_s=0, password=False) as open_to_all,
        AsyncMongoClient[Document](open_to_all.uri) as client,
    ):
        await client.crash.documents.insert_one({"_id": 7})
        await client.crash.command("createUser", "stranger", pwd="x", roles=["readWrite"])

    async with EmbeddedMongo(tmp_path, grace_s=0) as mongo:
        assert await stored(mongo.uri) == {7}
        stranger = mongo.address.replace("mongodb://", "mongodb://stranger:x@")
        with pytest.raises(OperationFailure):
            await stored(f"{stranger}&authSource=crash")
    (tmp_path / embedded.PASSWORD_FILE).unlink()
    async with EmbeddedMongo(tmp_path, grace_s=0) as mongo:
        assert await stored(mongo.uri) == {7}


async def test_a_missing_package_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "PROGRAM", "no-such-program")

    with pytest.raises(ConfigError) as caught:
        await EmbeddedMongo(tmp_path).start()

    assert caught.value.variable == "MONGODB_URI"
    assert "pip install 'agentic-gpu-renter[local]'" in caught.value.remedy


async def test_damaged_data_are_reported_with_the_servers_last_words(tmp_path: Path) -> None:
    (tmp_path / "mongo").write_text("not a folder")

    with pytest.raises(StoreDown) as caught:
        await EmbeddedMongo(tmp_path).start()

    assert "it exited with status" in str(caught.value)
    assert "mongo" in str(caught.value)
    async with held(FolderLock(tmp_path / "mongo.lock")):
        pass  # and the folder is free again


async def test_a_folder_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"DATA_DIR: .* cannot be written"):
        await EmbeddedMongo(tmp_path / "file").start()


def test_the_server_does_not_inherit_our_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X402_PRIVATE_KEY", "0xsecret")

    assert "X402_PRIVATE_KEY" not in embedded._environment()
    assert "PATH" in embedded._environment()


async def test_a_lock_tells_who_holds_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "lock")
    assert lock.held_by() is None
    async with held(lock):
        assert FolderLock(tmp_path / "lock").held_by() == os.getpid()
    assert lock.held_by() is None


HOLDER = """
import fcntl, os, subprocess, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
os.write(fd, str(os.getpid()).encode())
subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=[fd])
print("locked", flush=True)
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    """A process that locks `path` and ends, leaving a child that holds it until a line comes."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_a_lock_whose_owner_died_is_waited_for(tmp_path: Path) -> None:
    """The child that still holds it stands for a server on its way out."""
    lock = FolderLock(tmp_path / "lock")
    with start_holder(tmp_path / "lock") as holder:
        assert read_line(holder) == "locked\n"
        await asyncio.to_thread(holder.wait)
        with pytest.raises(ConfigError, match="in use by process"):
            await lock.acquire(deadline_s=0.1)
        waiting = asyncio.create_task(lock.acquire())
        assert holder.stdin is not None
        holder.stdin.write("go\n")
        holder.stdin.flush()

        await waiting

        assert lock.held_by() == os.getpid()
        lock.release()


class held:
    def __init__(self, lock: FolderLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
