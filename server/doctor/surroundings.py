"""The doctor's checks of what is around the agent: disk, clock, queue, exposure, who is told.

Each gives a finding, or raises the RenterError that says what is wrong and what to do.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from domain.errors import ConfigError, DependencyDown

if TYPE_CHECKING:
    from graph.deps import Deps
    from server.config.settings import Settings

ENOUGH_DISK_BYTES: Final = 1024**3
MOST_SKEW_S: Final = 60
"""The most seconds between our clock and a block's time, either way."""
CONNECT_S: Final = 3.0
ENV_FILES: Final = (".env", ".env.local", "*.env", "*.key")
KEY_FILES: Final = tuple(
    f"{where}*{what}*" for where in ("", "*/") for what in ("key", "password", "secret")
)
"""In DATA_DIR. The embedded MongoDB's password is such a file; services.json holds no secret."""
TABLES: Final = ".wt"
"""The embedded MongoDB's own files, some of which are called after the keys of its indexes."""
OTHERS: Final = 0o077
ENTER: Final = 0o011
PORTS: Final = {
    "http": 80,
    "https": 443,
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
    "nats": 4222,
}


async def disk(settings: Settings) -> str:
    """Check that the data folder takes files, and has room for more."""
    return await asyncio.to_thread(_disk, settings.data_dir.absolute())


def _disk(folder: Path) -> str:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        raise ConfigError(
            "DATA_DIR", f"{there} cannot be written ({error.strerror})", "Set DATA_DIR to another"
        ) from None
    if free < ENOUGH_DISK_BYTES:
        raise ConfigError(
            "DATA_DIR",
            f"{free / 1024**2:,.0f} MiB are free at {there}",
            "Make room: downloaded artifacts go there",
        )
    return f"{folder} takes files; {free / 1024**3:,.0f} GiB are free"


async def secrets_at_rest(settings: Settings) -> str:
    """Check that other users can read no file with secrets in this folder or DATA_DIR."""
    return await asyncio.to_thread(_secrets_at_rest, Path.cwd(), settings.data_dir.absolute())


def _secrets_at_rest(here: Path, data: Path) -> str:
    found = sorted({file for pattern in ENV_FILES for file in here.glob(pattern)})
    kept = sorted({file for pattern in KEY_FILES for file in data.glob(pattern)})
    found += [file for file in kept if file.suffix != TABLES]
    files = [file for file in found if file.is_file()]
    names = [file.name if file.parent == here else str(file) for file in files]
    readable = [
        name
        for name, file in zip(names, files, strict=True)
        if file.stat().st_mode & OTHERS and (file not in kept or _others_enter(file, data))
    ]
    if readable:
        raise ConfigError(
            ", ".join(readable),
            "other users of this machine may read what may hold secrets",
            f"Run: chmod 600 {shlex.join(readable)}",
        )
    return f"only their owner reads {', '.join(names)}" if names else "no file here holds any"


def _others_enter(file: Path, top: Path) -> bool:
    """Whether every folder from the file's up to `top` lets other users in."""
    folders = [folder for folder in file.parents if folder.is_relative_to(top)]
    return all(folder.stat().st_mode & ENTER for folder in folders)


async def clock(deps: Deps, *, local: bool) -> str:
    """Compare our clock with the chain's, which decides when an authorization is valid.

    local: whether the chain makes blocks on demand, so that its newest one may be old.
    """
    ahead = deps.now().timestamp() - (await deps.chain.head()).timestamp_s
    remedy = "Set this machine's clock: timedatectl set-ntp true"
    if ahead < -MOST_SKEW_S:
        raise ConfigError("clock", f"it is {-ahead:,.0f} s behind the chain's newest block", remedy)
    if local:
        return "not behind the chain's newest block"
    if ahead > MOST_SKEW_S:
        what = f"the chain's newest block is {ahead:,.0f} s old by this machine's clock"
        raise ConfigError("clock", what, f"{remedy}; or the RPC lags: set RPC_URL to another")
    return f"the chain's newest block is {ahead:,.0f} s old"


async def exposure(deps: Deps, settings: Settings) -> str:
    """Check that other machines need an API key, and that there is one."""
    from server.access import check_exposure, keys_required

    if not keys_required(settings):
        return f"only this machine reaches {settings.host}, and needs no key"
    await check_exposure(settings, deps.ledger.keys)
    in_force = [key for key in await deps.ledger.keys.all() if key.revoked_at is None]
    return f"others may reach {settings.host}; API keys in force: {len(in_force)}"


async def queue(settings: Settings) -> str:
    """Check that the workers' queue answers."""
    if settings.task_broker_url is None:
        return "none (TASK_BROKER_URL): workers look in MongoDB for what is due"
    url = settings.task_broker_url.get_secret_value()
    name = await _connect("TASK_BROKER_URL", url)
    if urlsplit(url).scheme in ("redis", "rediss"):
        await _ping_redis(url, name)
    return f"answers at {name}"


async def webhooks(settings: Settings) -> str:
    """Check that WEBHOOK_URL can be reached. Sends nothing."""
    if settings.webhook_url is None:
        return "none (WEBHOOK_URL)"
    name = await _connect("WEBHOOK_URL", settings.webhook_url)
    return f"{name} takes connections; what is sent is signed with WEBHOOK_SECRET"


async def traces(settings: Settings) -> str:
    """Check that the collector of traces can be reached. Sends nothing."""
    if settings.otel_exporter_otlp_endpoint is None:
        return "none (OTEL_EXPORTER_OTLP_ENDPOINT)"
    name = await _connect("OTEL_EXPORTER_OTLP_ENDPOINT", settings.otel_exporter_otlp_endpoint)
    return f"the collector at {name} takes connections"


async def _connect(variable: str, url: str) -> str:
    """Host and port of an address that takes connections. Shows no more of it: it may hold keys."""
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or PORTS.get(address.scheme, 0)
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        why = (
            os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no answer"
        )
        raise DependencyDown(
            f"{variable}: nothing answers at {host}:{port} ({why})",
            f"Start it, or set {variable} to where it is, or leave it out",
        ) from None
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return f"{host}:{port}"


async def _ping_redis(url: str, name: str) -> None:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    async with Redis.from_url(url, socket_timeout=CONNECT_S) as redis:
        try:
            await redis.ping()
        except (RedisError, OSError) as error:
            raise DependencyDown(
                f"TASK_BROKER_URL: Redis at {name} refuses ({type(error).__name__})",
                "Check its user and password",
            ) from None
