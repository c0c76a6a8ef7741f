"""Real queues for a fleet: Redis, which the suite uses, NATS and RabbitMQ.

Their programs are Debian's `redis-server`, `nats-server` and `rabbitmq-server`; the packages that
talk to the last two are the extra `brokers`. `python -m bench.fleet --queue nats` plays on one.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

READY_S: Final = 60.0


class Queue(Protocol):
    """A queue that a campaign starts, empties and kills."""

    @property
    def url(self) -> str: ...

    def start(self) -> None:
        """Return when it answers."""

    def flush(self) -> None:
        """Lose every hint."""

    def kill(self) -> None: ...


def find_redis() -> str:
    """The program. Raises FileNotFoundError, which says how to get it."""
    return found("redis-server", "redis-server")


class RedisServer:
    """A Redis that keeps nothing, on a port of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._command = [
            program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(folder),
        ]
        self._process = _Program(folder / "redis.log")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it answers."""
        self._process.start(self._command, {}, lambda: self._ask("PING") == b"+PONG")

    def kill(self) -> None:
        self._process.kill()

    def flush(self) -> None:
        """FLUSHALL: every hint is lost."""
        assert self._ask("FLUSHALL") == b"+OK"

    def _ask(self, command: str) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"{command}\r\n".encode())
                return connection.recv(64).strip()
        except OSError:
            return b""


class NatsServer:
    """A NATS. It keeps nothing, so that there is nothing to flush."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._process = _Program(folder / "nats.log")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        program = found("nats-server", "nats-server")
        command = [program, "-a", "127.0.0.1", "-p", str(self._port)]
        self._process.start(command, {}, lambda: _answers(self._port))

    def flush(self) -> None:
        """Nothing to do."""

    def kill(self) -> None:
        self._process.kill()


class RabbitServer:
    """A RabbitMQ. Each start is an empty one, so that what was in it is lost with a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port, self._starts = folder, free_port(), 0
        self._process = _Program(folder / "rabbitmq.log")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    def start(self) -> None:
        self._starts += 1
        program = found("rabbitmq-server", "rabbitmq-server")
        # Debian's own wrapper wants to be root or rabbitmq; what it starts does not mind.
        bare = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        env = {
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": f"fleet{self._port}_{self._starts}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._folder / f"rabbitmq{self._starts}"),
            "RABBITMQ_LOG_BASE": str(self._folder),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
        }
        command = [str(bare) if bare.exists() else program]
        self._process.start(command, env, lambda: _answers(self._port))

    def flush(self) -> None:
        """Kill it and start an empty one."""
        self.kill()
        self.start()

    def kill(self) -> None:
        self._process.kill()


class _Program:
    """A program and what it starts, until they are killed."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, command: Sequence[str], env: Mapping[str, str], answers: Callable[[], bool]
    ) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up = time.monotonic() + READY_S
        while not answers():
            assert time.monotonic() < give_up, f"{command[0]} does not answer: {self._log}"
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def found(program: str, package: str) -> str:
    """The program. Raises FileNotFoundError, which says how to get it."""
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(f"{program} is missing: apt-get install {package}")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
