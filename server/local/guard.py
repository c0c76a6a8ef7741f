"""The guard between us and a command: `python -m server.local.guard [--log FILE] -- CMD…`.

It stops the command (SIGTERM, after a grace SIGKILL) on SIGTERM, or when its stdin ends, which is
what our death looks like; the grace may be another one then (`--orphan-grace`). It pumps what the
command prints into a log of bounded size. Should the guard itself be killed, the command sees the
end of its own stdin, and on Linux the kernel kills it (PR_SET_PDEATHSIG).

It is one thread, which is why it may fork by itself. It imports the standard library alone, and
little of it: one guard runs beside each command, for as long as that does.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import selectors
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

GRACE_S: Final = 5.0
"""How long a command has between SIGTERM and SIGKILL."""
LOG_BYTES: Final = 1_000_000
"""A log past this size becomes `NAME.log.1`, and a new one is begun."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until it ends, or until our stdin does. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m server.local.guard", description=__doc__)
    parser.add_argument("--log", type=Path, default=Path(os.devnull))
    parser.add_argument("--grace", type=float, default=GRACE_S)
    parser.add_argument("--orphan-grace", type=float, default=None)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
    grace_s, orphan_s = arguments.grace, arguments.orphan_grace
    return _guard(
        arguments.command, _Log(arguments.log), grace_s, grace_s if orphan_s is None else orphan_s
    )


def _guard(command: Sequence[str], log: _Log, grace_s: float, orphan_s: float) -> int:
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
        stop = orphaned = False
        for key, _ in selector.select(timeout):
            data = os.read(key.fd, 65_536)
            if key.fd == output:
                log.write(data)
            elif key.fd == wake_read:
                stop = stop or signal.SIGTERM in data
            else:
                orphaned = not data
            if not data:
                selector.unregister(key.fd)
        status = _reaped(pid)
        if status is not None:
            log.drain(output)
            return status
        if (stop or orphaned) and kill_at is None:
            kill_at = time.monotonic() + (grace_s if stop else orphan_s)
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
