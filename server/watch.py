"""Following a run to its end: tick, look, show; live on a terminal, line by line elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domain.errors import DependencyDown, LeaseHeld
from domain.money import ZERO, Usd
from server.commands.bars import budget_line, losses, progress_bar, short

Json = Mapping[str, Any]

BUSY_WAIT_S: Final = 0.5
"""Between two tries while another tick works on the run."""
BAR_CELLS: Final = 20
MOST_FAILED_TICKS: Final = 5
"""In a row, before the watching is given up."""

STYLES: Final = {
    "running": "cyan", "queued": "cyan", "pending": "yellow", "completed": "green",
    "failed": "red", "cancelled": "yellow",
}  # fmt: skip
ENTRY_STYLES: Final = {
    "agent_reasoning": "bold",
    "payment_settled": "green",
    "recovery": "yellow",
    "run_completed": "bold green",
    "run_failed": "bold red",
    "tick_failed": "red",
    "job_log": "dim",
}


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
    drawn = out.is_terminal and not quiet
    screen = Live(picture(seen), console=out, refresh_per_second=8) if drawn else None
    with screen or nullcontext():
        while True:
            if screen:
                screen.update(picture(seen))
            elif not quiet:
                printed = _print_new(out, seen, printed)
            if seen["run"]["status"] != "running":
                return seen
            try:
                await server.tick(run_id)
                failed = 0
            except LeaseHeld:
                await asyncio.sleep(BUSY_WAIT_S)
            except DependencyDown:
                failed += 1
                if failed == MOST_FAILED_TICKS:
                    raise
                await asyncio.sleep(BUSY_WAIT_S)
            seen = await server.status(run_id)
            if seen["run"]["status"] == "running":
                await asyncio.sleep(interval_s)


def picture(answer: Json, last: int = 8) -> RenderableType:
    """A run's status, as the API gives it, for a person."""
    run = answer["run"]
    parts: list[RenderableType] = [_money(run, answer.get("payments", ()))]
    for title, table in (
        ("Jobs", _jobs(answer)),
        ("Payments", _payments(answer.get("payments", ()))),
    ):
        if table.row_count:
            parts += ["", Text(title, style="bold"), table]
    entries = answer.get("observations", ())[-last:] if last else ()
    if entries:
        parts += ["", Text("Last entries of the journal", style="bold")]
        parts.append(_entries(entries))
    style = STYLES.get(run["status"], "")
    phase = f" · {run['phase']}" if run.get("phase") and run["status"] == "running" else ""
    headline = Text.assemble(str(run.get("goal", "")), "  ", (f"{run['status']}{phase}", style))
    return Panel(
        Group(*parts),
        title=headline,
        title_align="left",
        subtitle=f"run {run['_id']}",
        subtitle_align="right",
        border_style=style,
        padding=(1, 2),
    )


def money_of(run: Json, payments: Sequence[Json]) -> tuple[Usd, Usd, Usd]:
    """(total, spent, reserved) of a run's budget; spent is what its payments say."""
    total, left = Usd.parse(run["budgetTotal"]), Usd.parse(run["budgetRemaining"])
    paid = [p for p in payments if p["status"] == "completed"]
    spent = sum((Usd.parse(p["amount"]) for p in paid), ZERO)
    refunded = sum((Usd.parse(p.get("refunded") or 0) for p in paid), ZERO)
    return total, spent - refunded, total - left - (spent - refunded)


def _money(run: Json, payments: Sequence[Json]) -> RenderableType:
    total, spent, reserved = money_of(run, payments)
    return Text.assemble("Budget ", (str(total), "bold"), "  ", budget_line(total, spent, reserved))


def _jobs(answer: Json) -> Table:
    table = _table()
    lines = [e["content"] for e in answer.get("observations", ()) if e["type"] == "job_log"]
    jobs = answer.get("jobs", ())
    for number, job in enumerate(jobs):
        state, style = str(job["status"]), STYLES.get(job["status"], "")
        share = float(job.get("progress") or 0)
        error = str(job.get("errorMessage") or "")
        curve = losses(lines) if number == len(jobs) - 1 and not error else ""
        table.add_row(
            str(job["vendorId"]),
            Text(state, style=style),
            progress_bar(share, style, BAR_CELLS),
            f"{share:.0%}",
            Text(error, style="red") if error else Text(f"loss {curve}" if curve else ""),
        )
    return table


def _payments(payments: Sequence[Json]) -> Table:
    table = _table()
    for payment in payments:
        table.add_row(
            str(payment.get("vendorId", "")),
            str(Usd.parse(payment["amount"])),
            Text(str(payment["status"]), style=STYLES.get(payment["status"], "")),
            short(str(payment.get("x402TxId") or "")),
        )
    return table


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True)
    return table


def _entries(entries: Sequence[Json]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for entry in entries:
        style = ENTRY_STYLES.get(entry["type"], "")
        table.add_row(str(entry["type"]), Text(str(entry["content"]), style=style))
    return table


def _print_new(console: Console, answer: Json, printed: int) -> int:
    """Print the entries after the seq `printed`; return the last seq."""
    for place, entry in enumerate(answer.get("observations", ()), start=1):
        seq = int(entry.get("seq", place))
        if seq > printed:
            first, *more = str(entry["content"]).splitlines() or [""]
            text = "\n".join([f"{entry['type']:<18}  {first}", *(" " * 20 + m for m in more)])
            console.print(Text(text, ENTRY_STYLES.get(entry["type"], "")), soft_wrap=True)
            printed = seq
    if answer["run"]["status"] != "running":
        console.print(picture(answer, last=0))
    return printed
