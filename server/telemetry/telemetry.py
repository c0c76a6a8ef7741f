"""Listening to services: what is measured and traced for as long as they are open."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final

from domain.errors import ConfigError
from ledger.ledger import Ledger
from server.config.settings import Settings
from server.telemetry.ledger_metrics import LedgerMetrics
from server.telemetry.metrics import Metrics
from server.wiring import OpenServices, Services
from tools.wire.observer import Listener

LOG: Final = logging.getLogger(__name__)


class Telemetry:
    """What one server or worker tells of itself.

    telemetry = Telemetry()
    async with telemetry.over(open_)() as services: …
    """

    def __init__(self, *, worker: bool = False) -> None:
        """worker: has no API of its own, so it may answer scrapes at WORKER_METRICS_PORT."""
        self.metrics = Metrics()
        self._worker = worker
        self._ledger_metrics: LedgerMetrics | None = None

    def over(self, open_: OpenServices) -> OpenServices:
        """`open_`, and the opened services are listened to until they are closed."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[Services]:
            async with open_() as services, self.listening(services):
                yield services

        return opened

    @asynccontextmanager
    async def listening(self, services: Services) -> AsyncIterator[None]:
        """Listen to services that are open."""
        async with AsyncExitStack() as stack:
            listeners: list[Listener] = [self.metrics]
            endpoint = services.settings.otel_exporter_otlp_endpoint
            if endpoint is not None:
                from server.telemetry.traces import tracing

                listeners.append(await stack.enter_async_context(tracing(endpoint)))
            stack.enter_context(services.deps.observer.listening(*listeners))
            if self._worker:
                stack.enter_context(self._answering(services.settings))
            else:
                stack.enter_context(self._reading(services.deps.ledger))
            yield

    async def scrape(self) -> bytes:
        """All metrics in Prometheus's text format, with the ledger's where it is open."""
        from prometheus_client import generate_latest

        if self._ledger_metrics is not None:
            await self._ledger_metrics.read()
        return generate_latest(self.metrics.registry)

    @contextmanager
    def _reading(self, ledger: Ledger) -> Iterator[None]:
        """The ledger's metrics are among ours."""
        metrics = self._ledger_metrics = LedgerMetrics(ledger)
        self.metrics.registry.register(metrics)
        try:
            yield
        finally:
            self.metrics.registry.unregister(metrics)
            self._ledger_metrics = None

    @contextmanager
    def _answering(self, settings: Settings) -> Iterator[None]:
        """A worker's metrics are answered at a port of their own. Raises ConfigError."""
        port = settings.worker_metrics_port
        if port is None:
            yield
            return
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(port, settings.host, self.metrics.registry)
        except OSError as error:
            raise ConfigError(
                "WORKER_METRICS_PORT",
                f"{settings.host} port {port} cannot be listened on ({error.strerror})",
                "Set it to a free port, or leave it out",
            ) from None
        LOG.info("metrics at http://%s:%d/metrics", settings.host, server.server_port)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
