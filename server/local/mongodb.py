"""The embedded MongoDB: the package `secantusdb`, started as a program of its own.

It is for a laptop, the demo and the tests; production sets MONGODB_URI. It is beta software under
the GPL, so it is never imported, and it runs with `--sync-on-commit` always: without it an
acknowledged write may be lost in a crash.

It listens on this machine alone and asks for a password: another account of the machine, which can
reach the port, gets nothing. The password is random, made once for each folder, and stands in
`mongo.password` there, for its owner alone. It has no Unix socket, and makes its first user only
where it asks for no password yet, so a new folder's server runs for a moment without; nobody else's
user or data outlives that moment (`_check_alone`).

Measured with secantusdb 0.7.0b3 and PyMongo 4.20 on two cores: it answers its first ping 1.5 s
after `start` (0.7 s more in a new folder, for its user), and takes 2 s to stop when asked. A
connection takes 10 ms instead of 6 ms because of the password, a command no longer than without (by
TLS with a client certificate it was 20 ms, and a tenth more for each command). MongoClient and
AsyncMongoClient work with `retryWrites=true`, read concern "majority", and `w="majority", j=True`
(1.3 ms for such an insert), as do transactions.
With everything killed by SIGKILL in mid-write, all acknowledged documents are there after the
next start (tests/server/test_local_mongodb.py).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import secrets
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from domain.errors import ConfigError, RenterError, StoreDown
from ledger.holder import lives
from server.local.child import ChildProcess

LOG: Final = logging.getLogger(__name__)
PROGRAM: Final = "secantusd-py"
USER: Final = "gpu-renter"
PASSWORD_FILE: Final = "mongo.password"
STORAGE: Final = "mongo"
START_DEADLINE_S: Final = 60.0
LOCK_DEADLINE_S: Final = 15.0
"""How long a dead owner's processes have to be gone."""

_LISTENING: Final = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_SYSTEM: Final = frozenset({"admin", "config", "local"})
"""Databases that a server has of its own."""


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
                if time.monotonic() > give_up or (owner is not None and lives(owner)):
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
            return owner if owner is not None and lives(owner) else None
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

    def __init__(self, folder: Path, *, grace_s: float = 5.0, password: bool = True) -> None:
        """grace_s: 0 kills it where `stop` would ask first, and loses nothing but 2 s.

        password: False for a server that whoever reaches it may use, as only a test's may be.
        """
        self._folder = folder.absolute()
        self._grace_s = grace_s
        self._password = password
        self._lock = FolderLock(self._folder / "mongo.lock")
        self._child: ChildProcess | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """Where it answers, without the password; empty unless started."""
        return self._address

    @property
    def uri(self) -> str:
        """Where it answers, with the password: never show it. Empty unless started."""
        return with_password(self._address, self._folder) if self._password else self._address

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def start(self) -> str:
        """Start it and return its URI once it answers a ping.

        Raises ConfigError when the package is missing (MONGODB_URI) or the folder is in use
        (DATA_DIR), StoreDown with the server's last words when it does not come up.
        """
        if self._child is not None:
            return self.uri
        program = find_program()
        await self._lock.acquire()
        try:
            fresh = self._password and await self._make_password(program)
            self._child = await self._start(program, ["--auth"] if self._password else [])
            if self._password:
                await self._check_alone(fresh)
        except BaseException:
            await self.stop()
            raise
        return self.uri

    async def stop(self) -> None:
        """Stop it and free the folder. Idempotent."""
        child, self._child, self._address = self._child, None, ""
        try:
            if child is not None:
                await child.stop()
        finally:
            self._lock.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _make_password(self, program: str) -> bool:
        """Give the folder's server a user with a new password, unless it has one; True where the
        folder was new.

        The password gets its name last: a crash before that has all of it repeated.
        """
        storage, kept = self._folder / STORAGE, self._folder / PASSWORD_FILE
        fresh = not storage.exists()
        if kept.exists() and not fresh:
            return False
        new, password = kept.with_suffix(".new"), secrets.token_urlsafe(32)
        _write_secret(new, password)
        child = await self._start(program, [], grace_s=0)
        try:
            async with AsyncMongoClient[dict[str, object]](self._address) as client:
                with suppress(OperationFailure):  # mostly there is none
                    await client.admin.command("dropUser", USER)
                roles = [{"role": "root", "db": "admin"}]
                await client.admin.command("createUser", USER, pwd=password, roles=roles)
        except PyMongoError as error:
            raise _start_failed(f"its user could not be made ({type(error).__name__})") from error
        finally:
            await child.stop()  # it is killed: what it has acknowledged is on the disk
        new.replace(kept)
        return fresh

    async def _check_alone(self, fresh: bool) -> None:
        """Undo what another account of this machine did before there was a password.

        Its users are dropped. Raises StoreDown where a new folder has data.
        """
        async with AsyncMongoClient[dict[str, Any]](self.uri) as client:
            try:
                for user in await client.admin["system.users"].find().to_list():
                    if (user["user"], user["db"]) != (USER, "admin"):
                        LOG.warning("the embedded MongoDB had a user that is not ours: dropped")
                        await client[user["db"]].command("dropUser", user["user"])
                written = set(await client.list_database_names()) - _SYSTEM if fresh else set()
            except OperationFailure as error:
                kept = self._folder / PASSWORD_FILE
                why = f"it does not take the password in {kept}: without that file it gets another"
                raise _start_failed(why) from error
        if written:
            raise _start_failed(
                f"somebody wrote into {self._folder / STORAGE} before it had a password: remove it"
            )

    async def _start(
        self, program: str, more: list[str], *, grace_s: float | None = None
    ) -> ChildProcess:
        child = self._make_child(program, more, self._grace_s if grace_s is None else grace_s)
        await child.start(
            lambda: self._answers(child), deadline_s=START_DEADLINE_S, failure=_start_failed
        )
        return child

    def _make_child(self, program: str, more: list[str], grace_s: float) -> ChildProcess:
        # An empty configuration of ours: it would look for one in the home folder otherwise.
        config = self._folder / "secantusd.toml"
        config.write_text("", encoding="utf-8")
        storage = self._folder / STORAGE
        # Standalone: it keeps no oplog, which nobody here follows and each write would pay for.
        keep = ["--sync-on-commit", "--standalone"]
        options = [*keep, "--config", str(config), "--storage-path", str(storage)]
        listen = ["--host", "127.0.0.1", "--port", "0", *more]
        return ChildProcess(
            name="the embedded MongoDB",
            command=[program, *options, *listen],
            log=self._folder / "logs" / "mongo.log",
            env=_environment(),
            hold_fds=[self._lock.fd],
            grace_s=grace_s,
            orphan_grace_s=0.0,  # the next start waits; acknowledged data is on disk
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
        self._address = uri
        return True


def _write_secret(path: Path, secret: str) -> None:
    """A new file that its owner alone may read, on the disk when this returns."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())


def with_password(address: str, folder: Path) -> str:
    """An embedded server's address with the password of its folder; as it is, where that has none
    for us.
    """
    try:
        password = (folder / PASSWORD_FILE).read_text(encoding="utf-8")
    except OSError:
        return address
    return address.replace("mongodb://", f"mongodb://{USER}:{password}@", 1)


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
