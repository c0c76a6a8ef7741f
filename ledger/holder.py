"""Who holds a lease: a process of a machine, and whether it still lives, as far as can be told."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from domain.mapping import Mapped

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder(Mapped):
    """One process. `born` tells it from a later one with the same number."""

    host: str
    """Names the machine since its last start and, inside one, the container."""
    pid: int
    born: str

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        return _holder(os.getpid())

    @property
    def elsewhere(self) -> bool:
        """Whether it is on another machine or in another container, where it cannot be seen."""
        return self.host != _host()

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended; False where that cannot be told from here."""
        return not self.elsewhere and not lives(self.pid, self.born)


def lives(pid: int, born: str = "") -> bool:
    """Whether process `pid` runs here and, where `born` is given, is the one that started then.

    One that has ended but that its parent has not reaped does not run. One that exists but cannot
    be examined (another user's in a restricted /proc, or no file can be opened) does.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    state, started = _stat(pid)
    return state not in ("Z", "X") and born in ("", started or born)


def _stat(pid: int) -> tuple[str, str]:
    """A process's state and when it started, by Linux; empty where it does not say."""
    try:
        fields = _PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return "", ""
    return fields[0], fields[19]


@cache
def _holder(pid: int) -> Holder:
    return Holder(_host(), pid, _stat(pid)[1])


@cache
def _host() -> str:
    known = [socket.gethostname(), f"{uuid.getnode():x}"]
    if _PROC.joinpath("self/stat").exists():
        try:
            known.append(_PROC.joinpath("sys/kernel/random/boot_id").read_text().strip())
            known.append(os.readlink(_PROC / "self/ns/pid"))
        except OSError:
            known.append(uuid.uuid4().hex)  # unknown: match no other
    return "|".join(known)
