"""The local stack: whatever is not configured is started here, as child processes.

    MONGODB_URI not set                    the embedded MongoDB
    NETWORK local and RPC_URL not set      the local chain and the mock vendor

They live as long as this process, however it ends. `<DATA_DIR>/services.json` tells other
commands where they answer; it holds no secrets.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from domain.errors import ChainDown, ConfigError, DependencyDown, RenterError
from ledger.store import Store
from server.config.settings import Settings, without_secrets
from server.local.child import ChildProcess
from server.local.mongodb import EmbeddedMongo, FolderLock
from server.local.running import Service, completion, read_services, services_file

START_DEADLINE_S: Final = 60.0
ORDER: Final = ("mongodb", "chain", "vendor")


class LocalStack:
    """Starts what `settings` leave out, and stops it in reverse order.

        async with LocalStack(settings) as stack:
            serve(stack.settings)

    ephemeral: take free ports instead of CHAIN_PORT and VENDOR_PORT.
    vendor_options: further arguments for the mock vendor.
    quick_stop: kill the embedded MongoDB instead of asking it, which takes 2 s (nothing is lost).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ephemeral: bool = False,
        vendor_options: tuple[str, ...] = (),
        quick_stop: bool = False,
    ) -> None:
        self._asked = settings
        self._folder = settings.data_dir.absolute()
        self._lock = services_lock(settings)
        self._mongo: EmbeddedMongo | None = None
        self._chain: ChildProcess | None = None
        self._vendor: ChildProcess | None = None
        self._ephemeral = ephemeral
        self._vendor_options = vendor_options
        self._mongo_grace_s = 0.0 if quick_stop else 5.0
        self._services: dict[str, Service] = {}
        self._completed = settings

    @property
    def settings(self) -> Settings:
        """The settings, completed with where the started services answer."""
        return self._completed

    @property
    def store_is_ours(self) -> bool:
        """Whether we started the MongoDB: then nobody has reached it since it last ran."""
        return "mongodb" in self._services

    @property
    def services(self) -> list[Service]:
        """What was started, in the order mongodb, chain, vendor."""
        return sorted(self._services.values(), key=lambda s: ORDER.index(s.name))

    async def start(self) -> Settings:
        """Start what is missing and return the completed settings.

        Raises ConfigError (a port or the folder is in use, a package is missing) or
        DependencyDown (a service did not come up; its last words are in the message). Nothing is
        left running then.
        """
        if not (self._asked.needs_mongo or self._asked.needs_chain):
            return self._asked
        await self._lock.acquire()
        try:
            # All at once: the vendor needs the chain's address, not yet the chain.
            with ExitStack() as ports:
                async with asyncio.TaskGroup() as group:
                    if self._asked.needs_chain:
                        chain_port = self._reserve(ports, "CHAIN_PORT", self._asked.chain_port)
                        vendor_port = self._reserve(ports, "VENDOR_PORT", self._asked.vendor_port)
                        group.create_task(self._start_chain(chain_port))
                        group.create_task(self._start_vendor(vendor_port, chain_port))
                    if self._asked.needs_mongo:
                        group.create_task(self._start_mongo())
            self._completed = self._asked.completed(**completion(self._services, self._folder))
            write_services(self._folder, self.services)
        except BaseException as error:
            await asyncio.shield(self.stop())
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        return self._completed

    async def stop(self) -> None:
        """Stop what was started: the vendor, the chain, MongoDB. Idempotent."""
        if self._lock.held:
            services_file(self._folder).unlink(missing_ok=True)
        vendor, self._vendor = self._vendor, None
        chain, self._chain = self._chain, None
        mongo, self._mongo = self._mongo, None
        self._services.clear()
        try:
            for service in (vendor, chain, mongo):
                if service is not None:
                    await service.stop()
        finally:
            self._lock.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start_mongo(self) -> None:
        self._mongo = EmbeddedMongo(self._folder, grace_s=self._mongo_grace_s)
        await self._mongo.start()
        self._services["mongodb"] = Service("mongodb", self._mongo.address, self._mongo.pid)

    async def _start_chain(self, port: int) -> None:
        self._chain = self._program("chain", port)
        await self._await_ready("chain", self._chain)

    async def _start_vendor(self, port: int, chain_port: int) -> None:
        rpc_url = f"http://127.0.0.1:{chain_port}"
        self._vendor = self._program("vendor", port, "--rpc-url", rpc_url)
        await self._await_ready("vendor", self._vendor)

    def _reserve(self, ports: ExitStack, variable: str, port: int) -> int:
        return ports.enter_context(reserved_port(variable, 0 if self._ephemeral else port))

    def _program(self, name: str, port: int, *options: str) -> ChildProcess:
        where = ("--port", str(port), "--data-dir", str(self._folder / name))
        extra = self._vendor_options if name == "vendor" else ()
        return ChildProcess(
            name=f"the local {name}",
            command=[
                *(sys.executable, "-m", "mock_vendor", name, *where),
                *("--exit-with-stdin", *options, *extra),
            ],
            log=self._folder / "logs" / f"{name}.log",
            env=self._environment(),
            hold_fds=[self._lock.fd],
        )

    def _environment(self) -> dict[str, str]:
        """Ours, with the vendor's settings and without the agent's secrets."""
        return {
            **without_secrets(os.environ),
            "GPU_VENDOR_SECRET": self._asked.gpu_vendor_secret.get_secret_value(),
            "BASE_PRICE_PER_HOUR": str(self._asked.base_price_per_hour),
            "FAIL_VENDOR_ID": self._asked.fail_vendor_id,
            "FAIL_RATE": str(self._asked.fail_rate),
        }

    async def _await_ready(self, name: str, program: ChildProcess) -> str:
        def failure(problem: str) -> RenterError:
            kind = ChainDown if name == "chain" else DependencyDown
            return kind(f"Starting the local {name}: {problem}", f"Its log: {program.log}")

        ready = await program.start_service(deadline_s=START_DEADLINE_S, failure=failure)
        url = str(ready["url"]).rstrip("/")
        self._services[name] = Service(name, url, program.pid)
        return url


async def attach(settings: Settings) -> Settings | None:
    """The settings completed with the services that another command has started, if they live.

    None when something that `settings` leave out is not running on this DATA_DIR.
    """
    if not (settings.needs_mongo or settings.needs_chain):
        return settings
    services = await asyncio.to_thread(_held_services, settings)
    if services is None:
        return None
    needed = [
        *(["mongodb"] if settings.needs_mongo else []),
        *(["chain", "vendor"] if settings.needs_chain else []),
    ]
    if any(name not in services for name in needed):
        return None
    found = {name: services[name] for name in needed}
    answers = await asyncio.gather(*(_listens(service.url) for service in found.values()))
    return settings.completed(**completion(found, settings.data_dir)) if all(answers) else None


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[tuple[Store, Settings]]:
    """The store of a running `serve`, of MONGODB_URI, or of the embedded MongoDB meanwhile; and
    the settings, completed with what a running `serve` has started on this DATA_DIR.
    """
    async with AsyncExitStack() as stack:
        reached = await attach(settings) or settings
        if reached.mongodb_uri is None:
            mongo = EmbeddedMongo(settings.data_dir, grace_s=0)
            await stack.enter_async_context(mongo)
            uri = mongo.uri
        else:
            uri = reached.mongodb_uri.get_secret_value()
        store = Store.open(uri, settings.mongodb_db_name)
        stack.push_async_callback(store.close)
        yield store, reached


def _held_services(settings: Settings) -> dict[str, Service] | None:
    """What the folder's owner wrote down; None when no process owns the folder."""
    if services_lock(settings).held_by() is None:
        return None
    return read_services(settings.data_dir)


def services_lock(settings: Settings) -> FolderLock:
    """Held while a local stack runs on this DATA_DIR."""
    return FolderLock(settings.data_dir.absolute() / "services.lock")


def check_not_served(settings: Settings) -> None:
    """Raise ConfigError where another server has this DATA_DIR: it has the ports, too."""
    owner = services_lock(settings).held_by()
    if owner is not None and (settings.needs_mongo or settings.needs_chain):
        raise ConfigError(
            "DATA_DIR",
            f"{settings.data_dir.absolute()} is in use by process {owner}, another server",
            "Stop it; or for a second one, set DATA_DIR to another folder, and PORT, CHAIN_PORT "
            "and VENDOR_PORT to free ports (0 takes any)",
        )


async def predecessor_gone(settings: Settings) -> None:
    """Return when what a killed server had started on this DATA_DIR is gone, ports and all.

    Raises ConfigError where a live process has the folder.
    """
    if settings.needs_mongo or settings.needs_chain:
        lock = services_lock(settings)
        await lock.acquire()
        lock.release()


def write_services(folder: Path, services: list[Service]) -> None:
    """Write the file at once and whole, for its owner alone."""
    content = {
        "owner": os.getpid(),
        "services": [{"name": s.name, "url": s.url, "pid": s.pid} for s in services],
    }
    whole = services_file(folder).with_suffix(".tmp")
    whole.unlink(missing_ok=True)
    with open(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    whole.replace(services_file(folder))


@contextmanager
def reserved_port(variable: str, port: int) -> Iterator[int]:
    """`port`, or a free one for 0, kept from others until the block ends.

    Raises ConfigError, naming the variable, when it cannot be listened on.
    """
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reservation.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                variable,
                f"port {port} cannot be listened on ({error.strerror})",
                f"Stop what uses it, or set {variable} to a free port (0 takes any)",
            ) from error
        number = int(reservation.getsockname()[1])
        if not sys.platform.startswith("linux"):
            reservation.close()  # elsewhere the service could not listen beside it
        yield number


async def _listens(url: str) -> bool:
    address = urlsplit(url)
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.close()
        await writer.wait_closed()
        return True
    return False
