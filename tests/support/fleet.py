"""A fleet as it runs: a real Redis, and `gpu-renter worker` processes that are killed.

What their logs say of ticks proves that no run was ever ticked twice at once.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from server.config.settings import Settings

ROOT: Final = Path(__file__).resolve().parent.parent.parent
READY_S: Final = 60.0
TICK: Final = re.compile(r"run (\S+): tick (\d+) (begins|ends)")


@dataclass(frozen=True, slots=True)
class TickSpan:
    """One tick of a run: from when to when it may have had effects."""

    run_id: str
    fence: int
    begins: float
    ends: float


@dataclass(slots=True)
class WorkerProcess:
    """`gpu-renter worker`, started again after each kill; each life has a log of its own."""

    name: str
    folder: Path
    env: Mapping[str, str]
    lives: list[tuple[Path, float]] = field(default_factory=list)
    """The logs of ended lives, and when they ended."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.{len(self.lives)}.log"

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server.cli", "worker"],
                cwd=self.folder,
                env=dict(self.env),
                stdout=log,
                stderr=log,
            )

    @property
    def ready(self) -> bool:
        """Whether its present life says that it is."""
        return b"Ready" in self._log.read_bytes()

    @property
    def ticks_now(self) -> bool:
        """Whether its present life has begun a tick."""
        return b"begins" in self._log.read_bytes()

    def memory_mb(self) -> float:
        """What it holds in memory now."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self, number: signal.Signals) -> int | None:
        """Send the signal, wait for its end; the exit status, None where it did not run."""
        if self._process is None:
            return None
        self._process.send_signal(number)
        status = self._process.wait(READY_S)
        self.lives.append((self._log, time.time()))
        self._process = None
        return status

    def spans(self) -> list[TickSpan]:
        """The ticks of all its ended lives. One that a kill cut off ends with the life."""
        return [span for log, ended in self.lives for span in _spans(log, ended)]


def worker_environment(settings: Settings, broker: str | None, **more: str) -> dict[str, str]:
    """What a worker process needs to share the services of `settings`."""
    kept = ("PATH", "HOME", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG")
    uri = settings.mongodb_uri
    assert uri is not None
    given = {
        "PYTHONPATH": str(ROOT),
        "MONGODB_URI": uri.get_secret_value(),
        "MONGODB_DB_NAME": settings.mongodb_db_name,
        "RPC_URL": settings.chain_url,
        "CHAIN_PORT": str(settings.chain_port),
        "VENDOR_PORT": str(settings.vendor_port),
        "DATA_DIR": str(settings.data_dir),
        "TASK_BROKER_URL": broker or "",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
        "LANGSMITH_TRACING": "false",
    }
    return {k: v for k, v in os.environ.items() if k in kept} | given | more


def overlaps(spans: Iterable[TickSpan]) -> list[str]:
    """Each pair of ticks of one run that were at work at once, in words; two with one fence too."""
    by_run: dict[str, list[TickSpan]] = {}
    for span in spans:
        by_run.setdefault(span.run_id, []).append(span)
    found = []
    for run_id, ticks in by_run.items():
        ticks.sort(key=lambda tick: tick.fence)
        for one, other in pairwise(ticks):
            if one.fence == other.fence:
                found.append(f"{run_id}: two ticks have fence {one.fence}")
            elif other.begins < one.ends:
                late = one.ends - other.begins
                found.append(f"{run_id}: ticks {one.fence} and {other.fence}, for {late:.3f} s")
    return found


def _spans(log: Path, ended: float) -> list[TickSpan]:
    """The ticks that a log tells of. ended: when its process did."""
    begun: dict[tuple[str, int], float] = {}
    spans = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        said = TICK.search(line)
        if said is None or not line.startswith("{") or not line.endswith("}"):
            continue
        at = datetime.fromisoformat(json.loads(line)["at"]).timestamp()
        key = (said[1], int(said[2]))
        if said[3] == "begins":
            begun[key] = at
        else:
            spans.append(TickSpan(*key, begun.pop(key), at))
    return spans + [TickSpan(*key, at, ended) for key, at in begun.items()]
