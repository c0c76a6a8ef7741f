"""Child processes that never outlive us, even when we are killed with SIGKILL.

Between us and the command stands a guard, `python -m ledger.child [--log FILE] -- CMD…`:

    us ──stdin pipe──> guard ──stdin pipe──> command

The guard stops the command (SIGTERM, after a grace SIGKILL) when its stdin ends, which is what
our death looks like, or on SIGTERM. It pumps what the command prints into a log of bounded size.
Should the guard itself be killed, the command sees the end of its own stdin, and on Linux the
kernel kills it (PR_SET_PDEATHSIG).

The guard runs in a session of its own, so a terminal's Ctrl-C reaches only us, and we stop our
children in the order that is right. It is one thread, which is why it may fork by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from domain.errors import DependencyDown, RenterError

GRACE_S: Final = 5.0
"""How long a command has between SIGTERM and SIGKILL."""
LOG_BYTES: Final = 1_000_000
"""A log past this size becomes `NAME.log.1`, and a new one is begun."""
POLL_S: Final = 0.02
TAIL_LINES: Final = 8

Probe = Callable[[], Awaitable[bool]]
"""True when the command is ready. False means not yet; so does an OSError."""


@dataclass(slots=True)
class ChildProcess:
    """One guarded command. Its handle belongs to no event loop: any loop may start and stop it."""

    name: str
    """What a person calls it, as in "the embedded MongoDB"."""
    command: Sequence[str]
    log: Path
    """Where its output goes, started afresh by `start`."""
    env: Mapping[str, str] | None = None
    """Its whole environment; None is ours."""
    hold_fds: Sequence[int] = ()
    """Descriptors that the guard keeps open until the command is gone (a lock, say)."""
    grace_s: float = GRACE_S
    _guard: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int | None:
        """The guard's process id, while there is one."""
        return self._guard.pid if self.running and self._guard is not None else None

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    async def start(
        self,
        probe: Probe,
        *,
        deadline_s: float = 30.0,
        failure: Callable[[str], RenterError] | None = None,
    ) -> None:
        """Start the command and return when `probe` says that it is ready.

        Raises DependencyDown, or what `failure(problem)` makes of it, when the command exits
        first or the deadline passes; the message ends with the last lines of its output.
        Nothing is left running then, nor when the caller is cancelled.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is started already")
        make_error = failure or (lambda problem: DependencyDown(f"Starting {self.name}: {problem}"))
        guard = self._guard = self._spawn()
        give_up = time.monotonic() + deadline_s
        try:
            while True:
                if guard.poll() is not None:
                    raise make_error(f"it exited with status {guard.returncode}{self._said()}")
                if await _holds(probe):
                    return
                if time.monotonic() > give_up:
                    raise make_error(f"it was not ready within {deadline_s:g} s{self._said()}")
                await asyncio.sleep(POLL_S)
        except BaseException:
            await asyncio.shield(self.stop())
            raise

    async def start_service(
        self,
        *,
        deadline_s: float = 30.0,
        failure: Callable[[str], RenterError] | None = None,
    ) -> dict[str, Any]:
        """Start a command that prints `{"ready": true, …}` on a line; return that line."""
        ready: dict[str, Any] = {}

        async def printed() -> bool:
            ready.update(self.ready_line() or {})
            return bool(ready)

        await self.start(printed, deadline_s=deadline_s, failure=failure)
        return ready

    async def stop(self) -> None:
        """Stop the command and return when it is gone. Idempotent."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.stdin is not None:
            with suppress(BrokenPipeError):
                guard.stdin.close()
        give_up = time.monotonic() + self.grace_s + 2.0
        while guard.poll() is None:
            if time.monotonic() > give_up:
                guard.kill()
            await asyncio.sleep(POLL_S)

    @property
    def returncode(self) -> int | None:
        """The command's exit status once it is gone; 128 + n when signal n ended it."""
        return self._guard.poll() if self._guard is not None else None

    def output(self) -> str:
        """What the command has printed of late, both streams together."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def ready_line(self) -> dict[str, Any] | None:
        for line in self.output().splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                with suppress(ValueError):
                    message = json.loads(line)
                    if message.get("ready") is True:
                        return dict(message)
        return None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def __aenter__(self) -> Self:
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log.unlink(missing_ok=True)
        env = dict(os.environ if self.env is None else self.env)
        # The guard, and a command that is a module of ours, must be found from any folder.
        root = str(Path(__file__).resolve().parent.parent)
        env.setdefault("PYTHONUNBUFFERED", "1")
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH", "")]))
        guard = [sys.executable, "-m", "ledger.child", "--log", str(self.log)]
        return subprocess.Popen(
            [*guard, "--grace", str(self.grace_s), "--", *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
            pass_fds=tuple(self.hold_fds),
        )

    def _said(self) -> str:
        lines = [line for line in self.output().splitlines() if line.strip()][-TAIL_LINES:]
        return "; it said:\n  " + "\n  ".join(lines) if lines else " and said nothing"


async def _holds(probe: Probe) -> bool:
    try:
        return await probe()
    except OSError:
        return False


# ---- the guard: what `python -m ledger.child` runs --------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until it ends, or until our stdin does. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m ledger.child", description=__doc__)
    parser.add_argument("--log", type=Path, default=Path(os.devnull))
    parser.add_argument("--grace", type=float, default=GRACE_S)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
    return _guard(arguments.command, _Log(arguments.log), arguments.grace)


def _guard(command: Sequence[str], log: _Log, grace_s: float) -> int:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in _SIGNALS:
        signal.signal(number, _noted)
    pid, output, _alive = _fork(command)

    selector = selectors.SelectSelector()  # any kind of stdin will do
    for source in (0, output, wake_read):
        selector.register(source, selectors.EVENT_READ)
    kill_at: float | None = None
    while True:
        timeout = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        stop = False
        for key, _ in selector.select(timeout):
            data = os.read(key.fd, 65_536)
            if key.fd == output:
                log.write(data)
            elif key.fd == wake_read:
                stop = stop or signal.SIGTERM in data
            else:
                stop = stop or not data
            if not data:
                selector.unregister(key.fd)
        status = _reaped(pid)
        if status is not None:
            log.drain(output)
            return status
        if stop and kill_at is None:
            kill_at = time.monotonic() + grace_s
            _signal(pid, signal.SIGTERM)
        elif kill_at is not None and time.monotonic() >= kill_at:
            _signal(pid, signal.SIGKILL)
            kill_at = time.monotonic() + grace_s


def _fork(command: Sequence[str]) -> tuple[int, int, int]:
    """Start the command in a process group of its own: (pid, its output, our end of its stdin)."""
    output_read, output_write = os.pipe()
    stdin_read, stdin_write = os.pipe()
    guard = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none is lost between fork and exec
    pid = os.fork()
    if pid == 0:
        _become(command, guard, stdin_read, output_write)
    with suppress(OSError):  # here and there: whichever is first
        os.setpgid(pid, pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.close(output_write)
    os.close(stdin_read)
    os.set_blocking(output_read, False)
    return pid, output_read, stdin_write


def _become(command: Sequence[str], guard: int, stdin: int, output: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        if _LINUX:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # it died before the line above
                os._exit(1)
        signal.set_wakeup_fd(-1)
        for number in (*_SIGNALS, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.execvp(command[0], list(command))
    except BaseException as error:  # noqa: BLE001 - this process has no one to raise to
        with suppress(OSError):
            os.write(2, f"cannot run {command[0]}: {error}\n".encode())
    os._exit(127)


class _Log:
    """The command's output in at most two files, `NAME` and, before it, `NAME.1`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        if self._path != Path(os.devnull) and self._file.tell() + len(data) > LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab", buffering=0)
        with suppress(OSError):  # a full disk must not stop the command
            self._file.write(data)

    def drain(self, source: int) -> None:
        """Take what is still in the pipe. Not until its end: a grandchild may hold it open."""
        with suppress(BlockingIOError):
            while data := os.read(source, 65_536):
                self.write(data)


def _reaped(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    if not done:
        return None
    _signal(pid, signal.SIGKILL)  # whatever the command left behind in its group
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _noted(number: int, frame: object) -> None:
    """A handler must exist for the wake-up descriptor to be written."""


_LINUX: Final = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG: Final = 1
_SIGNALS: Final = (signal.SIGTERM, signal.SIGCHLD)

if __name__ == "__main__":
    sys.exit(main())
