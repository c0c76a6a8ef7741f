"""Following a run to its end: tick, look, show; live on a terminal, line by line elsewhere."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import Any, Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from domain.errors import DependencyDown, LeaseHeld
from domain.journal import NoteType
from domain.names import Names, named
from server.chat.decisions import how_decided
from server.terminal.run_picture import TONES, Json, picture, run_list

__all__ = ["follow", "picture", "run_list"]

BUSY_WAIT_S: Final = 0.5
"""Seconds between two tries while another tick works on the run."""
MOST_FAILED_TICKS: Final = 5
"""In a row, before the watching is given up."""


class RunServer(Protocol):
    async def tick(self, run_id: str) -> dict[str, Any]: ...
    async def status(self, run_id: str) -> dict[str, Any]: ...


async def follow(
    server: RunServer,
    run_id: str,
    *,
    interval_s: float,
    quiet: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Tick the run every `interval_s` until it has ended; return its last status.

    A tick that fails because something is down is tried again, MOST_FAILED_TICKS times in a row.
    """
    out = console or Console()
    seen = await server.status(run_id)
    printed, failed = 0, 0
    drawn = out.is_terminal and not out.is_dumb_terminal and not quiet
    stage = _Stage(seen)
    with Live(stage, console=out, refresh_per_second=8) if drawn else nullcontext():
        while True:
            stage.seen = seen
            if not drawn and not quiet:
                printed = _print_new(out, seen, printed)
            if seen["run"]["status"] != "running":
                stage.doing = ""
                return seen
            try:
                stage.doing = "ticking"
                await server.tick(run_id)
                failed = 0
            except LeaseHeld as held:
                stage.doing = str(held)
                await asyncio.sleep(BUSY_WAIT_S)
            except DependencyDown as error:
                failed += 1
                if failed == MOST_FAILED_TICKS:
                    raise
                stage.doing = f"{error}. Trying again"
                await asyncio.sleep(BUSY_WAIT_S)
            seen = await server.status(run_id)
            if seen["run"]["status"] == "running":
                stage.seen, stage.doing = seen, f"the next tick in {interval_s:g} s"
                await asyncio.sleep(interval_s)


class _Stage:
    """What a terminal shows: the run, and under it what goes on now, and for how long."""

    def __init__(self, seen: Json) -> None:
        self.seen = seen
        self.doing = "looking"
        self._begun = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    def __rich__(self) -> RenderableType:
        if not self.doing:
            return picture(self.seen)
        seconds = time.monotonic() - self._begun
        self._spinner.update(
            text=Text.assemble(self.doing, (f" · {seconds:.0f} s · Ctrl-C stops watching", "dim"))
        )
        return Group(picture(self.seen), self._spinner)


def _print_new(console: Console, answer: Json, printed: int) -> int:
    """Print the entries after the seq `printed`; return the last seq."""
    for place, entry in enumerate(answer.get("observations", ()), start=1):
        seq = int(entry.get("seq", place))
        if seq > printed:
            words = named(str(entry["content"]), Names(answer.get("vendorNames", {})))
            how = how_decided(str(entry["type"]), entry.get("data") or {})
            words = "\n".join([words, *how])
            first, *more = words.splitlines() or [""]
            text = "\n".join([f"{entry['type']:<18}  {first}", *(" " * 20 + m for m in more)])
            console.print(Text(text, TONES.get(NoteType(entry["type"]).tone, "")), soft_wrap=True)
            printed = seq
    if answer["run"]["status"] != "running":
        console.print(picture(answer, last=0))
    return printed
