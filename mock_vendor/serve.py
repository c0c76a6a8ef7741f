"""Running the chain and the vendor as processes: one port, one ready line, a clean stop.

Each imports its own application when it runs: py-evm and web3 take seconds to load, and neither
process needs both.
"""

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mock_vendor.chain.journal import FolderLock
from mock_vendor.vendor.problems import DroppedConnection
from mock_vendor.vendor.settings import VendorSettings

HOST = "127.0.0.1"
CHAIN_PORT = 8545
STOP_WITHIN_S = 1


class PortInUse(Exception):
    """Another program listens on the port."""


def run_chain(
    *,
    port: int = CHAIN_PORT,
    host: str = HOST,
    data_dir: Path | None = None,
    exit_with_stdin: bool = False,
    log_level: str = "warning",
) -> None:
    """Serve a local chain until SIGTERM, Ctrl-C or (if asked) the end of stdin.

    `port` 0 picks a free one. Prints one JSON line on stdout when ready. Raises PortInUse or
    FolderInUse.
    """
    from mock_vendor.chain.chain import LocalChain, create_chain_app

    listener = _listen(host, port)
    chain = LocalChain(data_dir)
    try:
        _serve(create_chain_app(chain), listener, "chain", exit_with_stdin, log_level)
    finally:
        chain.close()


def run_vendor(
    *,
    port: int | None = None,
    host: str = HOST,
    data_dir: Path | None = None,
    rpc_url: str | None = None,
    admin: bool = False,
    exit_with_stdin: bool = False,
    log_level: str = "warning",
) -> None:
    """Serve the vendors (and their facilitator) likewise, by the environment's VendorSettings:
    what is given here goes before those.
    """
    from mock_vendor.vendor.app import create_app

    asked = {"vendor_data_dir": data_dir, "rpc_url": rpc_url, "admin": admin}
    changes = {name: value for name, value in asked.items() if value}
    settings = VendorSettings().model_copy(update=changes)
    listener = _listen(host, settings.port if port is None else port)
    lock = FolderLock(settings.vendor_data_dir) if settings.vendor_data_dir else None
    try:
        _serve(create_app(settings), listener, "vendor", exit_with_stdin, log_level)
    finally:
        if lock:
            lock.close()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"port {port} on {host} is in use: stop what listens there or choose another port"
        ) from error
    return listener


def _serve(
    app: ASGIApp, listener: socket.socket, service: str, exit_with_stdin: bool, log_level: str
) -> None:
    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").addFilter(_is_not_a_dropped_connection)
    address, number = listener.getsockname()
    url = f"http://{address}:{number}"
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level=log_level,
            access_log=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
        ),
        on_ready=lambda: print(
            json.dumps({"ready": True, "service": service, "url": url}), flush=True
        ),
    )
    if exit_with_stdin:
        threading.Thread(target=_stop_at_end_of_stdin, args=(server,), daemon=True).start()
    with listener:
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on SIGTERM and Ctrl-C as on any wish to stop: with exit status 0."""
        del sig, frame
        self.should_exit = True


def _stop_at_end_of_stdin(server: uvicorn.Server) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True


def _is_not_a_dropped_connection(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], DroppedConnection))


def exit_quietly_on_sigterm() -> None:
    """Make an early SIGTERM end the process quietly, before the server handles signals."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
