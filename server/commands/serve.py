"""`gpu-renter serve`: the API, the dashboard, and every local service that is not configured."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from domain.errors import ConfigError, RenterError
from server.terminal.process import run

if TYPE_CHECKING:
    from server.config.settings import Settings
    from server.local.stack import LocalStack
    from server.wiring import Services

Ready = Callable[[], None]


def serve(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any.  \\[default: PORT, or 3000]")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="\\[default: HOST, else 127.0.0.1]", show_default=False)
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Tick every run when it is due, too.")
    ] = False,
) -> None:
    """Start the API, and whatever of MongoDB, chain and vendors is not configured.

    One Ctrl-C or SIGTERM stops all of it. Killed in any way, it starts again where it was: runs
    go on, and nothing is paid twice. Settings: see .env.example.

    [dim]$[/] gpu-renter serve
    [dim]$[/] gpu-renter serve --worker                     runs go on by themselves
    [dim]$[/] FAIL_VENDOR_ID=gpu_vendor_1 gpu-renter serve  FastGPU fails
    """
    from server.config.settings import Settings
    from server.telemetry.logs import configure_logs

    settings = Settings.load()
    asked = {name: value for name, value in (("port", port), ("host", host)) if value is not None}
    if asked:
        settings = settings.completed(**asked)
    configure_logs(settings)
    run(_serve(settings, worker))


async def _serve(settings: Settings, worker: bool) -> None:
    from server.local.stack import LocalStack, check_not_served, predecessor_gone

    check_not_served(settings)
    await predecessor_gone(settings)
    with _listen(settings.host, settings.port) as listener:
        for need, mode, detail in settings.modes():
            typer.echo(f"  {need:<8} {mode:<13} {detail}")
        _check_ports(settings)
        if settings.needs_mongo or settings.needs_chain:
            typer.echo("Starting what is not configured …")
        loading = asyncio.create_task(asyncio.to_thread(import_module, "server.app"))
        stack = LocalStack(settings)
        try:
            async with stack:
                await loading
                async with (
                    _services(stack, settings.needs_chain) as services,
                    _working(services) if worker else nullcontext(),
                ):
                    await _answer(services, listener, lambda: _tell(stack, listener))
        finally:
            loading.cancel()
    typer.echo("Stopped")


@asynccontextmanager
async def _services(stack: LocalStack, seeded: bool) -> AsyncIterator[Services]:
    from server.access import check_exposure
    from server.local.seed import seed_local
    from server.wiring import now, open_services

    async with open_services(stack.settings) as services:
        await check_exposure(stack.settings, services.deps.ledger.keys)
        if stack.store_is_ours:
            await services.deps.ledger.runs.free_abandoned(now(), alone=True)
        if seeded:
            registry = services.deps.ledger.vendors
            for vendor in await seed_local(registry, stack.settings, now()):
                typer.echo(f"  registered {vendor.vendor_id} ({vendor.name}) at {vendor.endpoint}")
        yield services


@asynccontextmanager
async def _working(services: Services) -> AsyncIterator[None]:
    """A worker beside the API, on the same services."""
    from server.commands.worker import check_broker, worker_over
    from server.runner.worker import working

    check_broker(services.settings)
    async with working(worker_over(services), services.settings.drain_seconds):
        yield


async def _answer(services: Services, listener: socket.socket, on_ready: Ready) -> None:
    """Serve the API until a signal says stop."""
    from server.app import create_app
    from server.terminal.api_server import ApiServer

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        yield services

    talkative = services.settings.log_level == "DEBUG"
    server = ApiServer(
        create_app(opened, services.settings), access_log=talkative, on_ready=on_ready
    )
    await server.serve(sockets=[listener])
    if not server.started:
        raise RenterError("The API did not start", "See the log above")


def _listen(host: str, port: int) -> socket.socket:
    """The API's socket, taken before anything is started. Raises ConfigError naming PORT."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except socket.gaierror:
        listener.close()
        raise ConfigError(
            "HOST", f"{host!r} is not an address of this machine", "Set HOST to 127.0.0.1"
        ) from None
    except OSError as error:
        listener.close()
        raise ConfigError(
            "PORT",
            f"{host} port {port} cannot be listened on ({error.strerror})",
            "Stop what uses it, or set PORT (or --port) to a free one (0 takes any)",
        ) from None
    return listener


def _check_ports(settings: Settings) -> None:
    """Say at once what would only be found out in the middle of starting. Raises ConfigError."""
    from server.local.stack import reserved_port

    if settings.needs_chain:
        for variable in ("CHAIN_PORT", "VENDOR_PORT"):
            with reserved_port(variable, getattr(settings, variable.lower())):
                pass


def _tell(stack: LocalStack, listener: socket.socket) -> None:
    for service in stack.services:
        typer.echo(f"  started  {service.name:<13} {service.url}")
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"Ready at http://{shown}:{port} (API: /docs, stop: Ctrl-C)")
