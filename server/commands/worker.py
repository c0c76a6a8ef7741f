"""`gpu-renter worker`: ticks what is due, beside a server or far from it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated, Final

import typer

from domain.errors import ConfigError
from server.terminal.process import on_stop_signals, run

if TYPE_CHECKING:
    from server.config.settings import Settings
    from server.runner.worker import Works
    from server.wiring import Services

TOO_TALKATIVE: Final = ("taskiq", "aio_pika", "aiormq", "nats")
"""They tell of every hint, and some of the queue's address."""


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Ticks at once.  \\[default: WORKER_CONCURRENCY]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tick every run when it is due, until stopped. Start as many as you like, anywhere.

    All of them share one MongoDB. With TASK_BROKER_URL they share the work through a queue; it may
    be lost, flushed or restarted at any time. Ctrl-C or SIGTERM lets the ticks at work come to the
    end of their step; killed, another worker goes on: on this machine within seconds, elsewhere
    when the lease ends (LEASE_SECONDS). A worker whose clock is not MongoDB's says so and waits.

    [dim]$[/] gpu-renter worker    in the folder of `gpu-renter serve`
    [dim]$[/] TASK_BROKER_URL=redis://queue:6379 MONGODB_URI=mongodb://… gpu-renter worker
    """
    from server.config.settings import Settings
    from server.telemetry.logs import configure_logs

    settings = Settings.load()
    if concurrency is not None:
        settings = settings.completed(worker_concurrency=concurrency)
    configure_logs(settings)
    for name in TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    run(_work(settings))


async def _work(asked: Settings) -> None:
    from server.local.stack import attach
    from server.runner.worker import working
    from server.telemetry.telemetry import Telemetry
    from server.wiring import open_services

    settings = await attach(asked)
    if settings is None:
        missing = "MONGODB_URI" if asked.needs_mongo else "RPC_URL"
        raise ConfigError(
            missing,
            f"it is not set, and no `gpu-renter serve` runs on {asked.data_dir}",
            "Set it, or start: gpu-renter serve",
        )
    check_broker(settings)
    stop = asyncio.Event()
    async with (
        open_services(settings) as services,
        Telemetry(worker=True).listening(services),
        working(worker_over(services), settings.drain_seconds) as task,
    ):
        on_stop_signals(lambda _: stop.set())
        over = "a queue" if settings.task_broker_url else "MongoDB alone"
        typer.echo(f"Ready: {settings.worker_concurrency} ticks at once, over {over}")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if task.done():
            task.result()
        typer.echo("Stopping: the ticks at work come to the end of their step …")
    typer.echo("Stopped")


def check_broker(settings: Settings) -> None:
    """Raise ConfigError where the queue's address needs a package that is not installed."""
    if settings.task_broker_url is not None:
        from server.runner.brokers import open_broker

        open_broker(settings.task_broker_url, "check")


def worker_over(services: Services) -> Works:
    """The worker that the settings ask for: over a queue, or over MongoDB alone."""
    url = services.settings.task_broker_url
    if url is None:
        from server.runner.worker import Worker

        return Worker(services)
    from server.runner.brokers import open_broker
    from server.runner.fleet import Fleet

    queue = f"gpu-renter:{services.settings.mongodb_db_name}"
    return Fleet(services, lambda: open_broker(url, queue))
