"""`gpu-renter` as a person runs it: a process, its output, its end, and whatever it started."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

DEADLINE_S: Final = 60.0
COMMAND: Final = (sys.executable, "-m", "server.cli")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def gpu_renter(
    *arguments: str, folder: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, and those that they started, parents first."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    children: dict[int, list[int]] = {}
    for line in listing.stdout.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, ahead = list[int](), [pid]
    while ahead:
        ahead = [child for parent in ahead for child in children.get(parent, [])]
        found += ahead
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(shown.stdout.strip()) and not shown.stdout.strip().startswith("Z")


def until_gone(pids: list[int]) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < give_up, f"still running: {left}"


@dataclass(slots=True)
class Served:
    """`gpu-renter serve` on ports of its own, started by `with`, in `folder`."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    lines: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def chain_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "it is not started"
        return self._process

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach it, too."""
        names = ("PORT", "CHAIN_PORT", "VENDOR_PORT")
        ports = dict(zip(names, map(str, self.ports), strict=True))
        return {**ports, "FAIL_RATE": "0", "GPU_RENTER_URL": self.url, **self.env}

    def start(self) -> None:
        """Return when it says that it is ready."""
        self.lines.clear()
        self._process = subprocess.Popen(
            [*COMMAND, "serve"],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        heard: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=_listen, args=(self._process, heard), daemon=True)
        self._reader.start()
        while (line := heard.get(timeout=DEADLINE_S)) is not None:
            self.lines.append(line)
            if line.startswith("Ready"):
                return
        raise AssertionError("it ended before it was ready:\n" + "".join(self.lines))

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=DEADLINE_S)
        self._close()
        return status

    def kill_alone(self) -> list[int]:
        """SIGKILL it alone; what it started, which is on its way out then."""
        started = descendants(self.process.pid)
        self.process.kill()
        self.process.wait(timeout=DEADLINE_S)
        self._close()
        return started

    def kill_all(self) -> None:
        """SIGKILL it and everything that it started, and wait until all are gone."""
        started = descendants(self.process.pid)
        self.process.kill()
        for pid in started:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(timeout=DEADLINE_S)
        until_gone(started)
        self._close()

    def _close(self) -> None:
        """Forget its output: the reader has seen its end."""
        if self._reader is not None:
            self._reader.join(DEADLINE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        with httpx.Client(base_url=self.url, timeout=DEADLINE_S, trust_env=False) as http:
            return http.request(method, path, **more)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill_all()


def _listen(process: subprocess.Popen[str], heard: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        heard.put(line)
    heard.put(None)
