"""Child processes that never outlive us, even when we are killed with SIGKILL.

Between us and the command stands a guard, a small program of its own (`server/local/guard.py`):

    us ──stdin pipe──> guard ──stdin pipe──> command

Its stdin ends when we die, and then it stops the command. It runs in a session of its own, so a
terminal's Ctrl-C reaches only us, and we stop our children in the order that is right.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from domain.errors import DependencyDown, RenterError
from server.local.guard import GRACE_S

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
    orphan_grace_s: float | None = None
    """How long the command has to stop where we were killed; None: as long as otherwise."""
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
        with suppress(ProcessLookupError):
            guard.terminate()  # its stdin ends with our death, or below
        give_up = time.monotonic() + self.grace_s + 2.0
        while guard.poll() is None:
            if time.monotonic() > give_up:
                guard.kill()
            await asyncio.sleep(POLL_S)
        if guard.stdin is not None:
            with suppress(BrokenPipeError):
                guard.stdin.close()

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

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def __aenter__(self) -> Self:
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log.unlink(missing_ok=True)
        env = dict(os.environ if self.env is None else self.env)
        # The guard, and a command that is a module of ours, must be found from any folder.
        root = str(Path(__file__).resolve().parents[2])
        env.setdefault("PYTHONUNBUFFERED", "1")
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH", "")]))
        guard = [sys.executable, "-m", "server.local.guard", "--log", str(self.log)]
        guard += ["--grace", str(self.grace_s)]
        if self.orphan_grace_s is not None:
            guard += ["--orphan-grace", str(self.orphan_grace_s)]
        return subprocess.Popen(
            [*guard, "--", *self.command],
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
