"""Uvicorn, made to stop in good order: our signals, and a word when it really listens."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from server.terminal.process import on_stop_signals

STOP_WITHIN_S = 5
"""How long open requests (a tick, say) have to end; a run that is cut off goes on later."""


class ApiServer(uvicorn.Server):
    """Serves `app` on a bound socket until Ctrl-C or SIGTERM; a second one does not wait."""

    def __init__(self, app: FastAPI, *, access_log: bool, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=access_log,
                timeout_graceful_shutdown=STOP_WITHIN_S,
            )
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        on_stop_signals(self._stop)
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own handlers would end the process before the local services are stopped."""
        yield

    def _stop(self, number: signal.Signals) -> None:  # noqa: ARG002
        self.force_exit = self.should_exit
        self.should_exit = True
