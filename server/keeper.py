"""Keeps the services open while the API serves; opens them again where opening them failed."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from domain.errors import DependencyDown, RenterError
from server.reports.retention import retaining
from server.reports.start_reconciliation import reconciled
from server.webhooks import delivering
from server.wiring import OpenServices, Services

LOG: Final = logging.getLogger(__name__)
PATIENCE_S: Final = 10.0
"""How long a request waits for the services to be opened."""


class Keeper:
    """Opens the services at most once at a time, in a task of its own that closes them too.

    A service that goes away later needs no reopening: its client connects again by itself.
    """

    def __init__(self, open_services: OpenServices) -> None:
        self._open_services = open_services
        self._opened: asyncio.Future[Services] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None

    def begin(self) -> asyncio.Future[Services]:
        """Begin to open the services, unless they are open or being opened; does not wait."""
        opened = self._opened
        if opened is None or (opened.done() and (opened.cancelled() or opened.exception())):
            opened = self._opened = asyncio.get_running_loop().create_future()
            opened.add_done_callback(_look_at)
            self._closing = asyncio.Event()
            self._task = asyncio.create_task(self._keep(opened, self._closing))
        return opened

    async def services(self) -> Services:
        """The open services. Raises the RenterError that opening them came to; the next call
        tries anew.
        """
        opened = self.begin()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait([opened])
        except TimeoutError:
            raise DependencyDown(
                "The services that this needs are still being opened", "Try again in a moment"
            ) from None
        if opened.cancelled():
            raise DependencyDown("The server is stopping", "Try again in a moment")
        return opened.result()

    async def close(self) -> None:
        """Close what is open, and return when it is. Idempotent."""
        task, self._task = self._task, None
        if task is None or self._closing is None or self._opened is None:
            return
        self._closing.set()
        if not self._opened.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._opened.cancel()
        self._opened = None

    async def _keep(self, opened: asyncio.Future[Services], closing: asyncio.Event) -> None:
        try:
            async with (
                self._open_services() as services,
                reconciled(services),
                delivering(services),
                retaining(services),
            ):
                opened.set_result(services)
                await closing.wait()
        except Exception as error:
            if isinstance(error, RenterError):
                LOG.warning("The services could not be opened or closed: %s", error)
                problem: RenterError = error
            else:
                LOG.error("The services could not be opened or closed", exc_info=error)
                problem = DependencyDown(
                    f"The services could not be opened ({type(error).__name__})",
                    "The server's log says why",
                )
            if not opened.done():
                opened.set_exception(problem)
        finally:
            opened.cancel()


def _look_at(opened: asyncio.Future[Services]) -> None:
    """Take note of a failure that no request waited for; the log has it already."""
    if not opened.cancelled():
        opened.exception()
