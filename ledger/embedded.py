"""The embedded MongoDB: the package `secantusdb`, started as a program of its own.

It is for a laptop, the demo and the tests; production sets MONGODB_URI. It is beta software under
the GPL, so it is never imported, and it runs with `--sync-on-commit` always: without it an
acknowledged write may be lost in a crash.

Measured with secantusdb 0.7.0b3 and PyMongo 4.20 on two cores: it answers its first ping 1.5 s
after `start`, and takes 2 s to stop when asked. MongoClient and AsyncMongoClient work with
`retryWrites=true` and `w="majority", j=True` (1.3 ms for such an insert), as do transactions.
With everything killed by SIGKILL in mid-write, all acknowledged documents are there after the
next start (tests/ledger/test_embedded.py).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from domain.errors import ConfigError, RenterError, StoreDown
from ledger.child import ChildProcess

PROGRAM: Final = "secantusd-py"
START_DEADLINE_S: Final = 60.0
LOCK_DEADLINE_S: Final = 15.0
"""How long a dead owner's processes have to be gone."""

_LISTENING: Final = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


class FolderLock:
    """At most one live process works on a folder. The lock dies with those that hold it.

    Children given the lock's descriptor keep it held until they are gone too, so whoever takes
    it finds the folder at rest, even after its last owner was killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        if self._fd is None:
            raise RuntimeError(f"{self._path} is not locked")
        return self._fd

    @property
    def held(self) -> bool:
        """Whether it is held by this object."""
        return self._fd is not None

    async def acquire(self, *, deadline_s: float = LOCK_DEADLINE_S) -> None:
        """Take the lock; wait for a dead owner's children to go.

        Raises ConfigError(DATA_DIR) when a live process has it, or the deadline passes.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                "DATA_DIR",
                f"{self._path.parent} cannot be written ({error.strerror})",
                "Set DATA_DIR to a folder of yours",
            ) from error
        give_up = time.monotonic() + deadline_s
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                owner = _pid_in(fd)
                if time.monotonic() > give_up or (owner is not None and _alive(owner)):
                    raise ConfigError(
                        "DATA_DIR",
                        f"{self._path.parent} is in use by process {owner or 'unknown'}",
                        "Stop it or set DATA_DIR to another folder",
                    )
                await asyncio.sleep(0.02)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def held_by(self) -> int | None:
        """The process id of the live owner, or None when nobody has the lock."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _pid_in(fd)
            return owner if owner is not None and _alive(owner) else None
        finally:
            os.close(fd)
        return None

    def release(self) -> None:
        """Let go. Idempotent. The file stays: removing it would let two owners in."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class EmbeddedMongo:
    """A MongoDB whose data lie under `folder`, as long as this object is started.

        async with EmbeddedMongo(Path(".gpu-renter")) as mongo:
            AsyncMongoClient(mongo.uri)

    Its handle belongs to no event loop: `asyncio.run(start())` and a later `stop()` do.
    """

    def __init__(self, folder: Path, *, grace_s: float = 5.0) -> None:
        """grace_s: 0 kills it where `stop` would ask first, and loses nothing but 2 s."""
        self._folder = folder.absolute()
        self._grace_s = grace_s
        self._lock = FolderLock(self._folder / "mongo.lock")
        self._child: ChildProcess | None = None
        self._uri = ""

    @property
    def uri(self) -> str:
        """Where it answers; empty unless started."""
        return self._uri

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def start(self) -> str:
        """Start it and return its URI once it answers a ping.

        Raises ConfigError when the package is missing (MONGODB_URI) or the folder is in use
        (DATA_DIR), StoreDown with the server's last words when it does not come up.
        """
        if self._child is not None:
            return self._uri
        program = find_program()
        await self._lock.acquire()
        try:
            child = self._make_child(program)
            await child.start(
                lambda: self._answers(child), deadline_s=START_DEADLINE_S, failure=_start_failed
            )
        except BaseException:
            self._lock.release()
            raise
        self._child = child
        return self._uri

    async def stop(self) -> None:
        """Stop it and free the folder. Idempotent."""
        child, self._child, self._uri = self._child, None, ""
        try:
            if child is not None:
                await child.stop()
        finally:
            self._lock.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _make_child(self, program: str) -> ChildProcess:
        # An empty configuration of ours: it would look for one in the home folder otherwise.
        config = self._folder / "secantusd.toml"
        config.write_text("", encoding="utf-8")
        storage = self._folder / "mongo"
        options = ["--sync-on-commit", "--config", str(config), "--storage-path", str(storage)]
        listen = ["--host", "127.0.0.1", "--port", "0"]
        return ChildProcess(
            name="the embedded MongoDB",
            command=[program, *options, *listen],
            log=self._folder / "logs" / "mongo.log",
            env=_environment(),
            hold_fds=[self._lock.fd],
            grace_s=self._grace_s,
        )

    async def _answers(self, child: ChildProcess) -> bool:
        """Port 0 lets the system choose, so that no other process can be in its place."""
        listening = _LISTENING.search(child.output())
        if listening is None:
            return False
        # Retryable writes are off: at each of them this server looks through those of half an hour.
        options = "directConnection=true&retryWrites=false"
        uri = f"mongodb://127.0.0.1:{listening[1]}/?{options}"
        async with AsyncMongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=500) as client:
            try:
                await client.admin.command("ping")
            except PyMongoError:
                return False
        self._uri = uri
        return True


def find_program() -> str:
    """The server's program, of the running interpreter's environment first.

    Raises ConfigError(MONGODB_URI) when it is not installed.
    """
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(PROGRAM)
    if found is None:
        raise ConfigError(
            "MONGODB_URI",
            "it is not set, and the embedded MongoDB is not installed",
            "pip install 'agentic-gpu-renter[local]', or set MONGODB_URI",
        )
    return found


def _environment() -> dict[str, str]:
    """What the server needs of our environment. Not our keys: it is not our program."""
    kept = ("PATH", "HOME", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or name.startswith(("LANG", "LC_", "PYTHON"))
    }


def _start_failed(problem: str) -> RenterError:
    return StoreDown(f"Starting the embedded MongoDB: {problem}", "Or set MONGODB_URI")


def _pid_in(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
