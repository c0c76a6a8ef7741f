"""A run's status, as the API gives it, drawn for a terminal of any width."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domain.journal import NoteType
from domain.money import ZERO, Usd
from domain.names import Names, named, short
from server.chat.decisions import how_decided, model_use
from server.chat.phases import DOES
from server.terminal.bars import budget_line, losses, progress_bar

Json = Mapping[str, Any]

BAR_CELLS: Final = 20
STYLES: Final = {
    "running": "cyan",
    "queued": "cyan",
    "pending": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
}
TONES: Final = {"good": "green", "warn": "yellow", "bad": "red", "mind": "bold", "dim": "dim"}
STATIONS: Final = {
    "intake": "goal",
    "assess_budget": "market",
    "choose_vendor": "decision",
    "approve": "approval",
    "pay": "payment",
    "launch": "launch",
    "monitor": "job",
}
"""Phases in the order of a run without trouble, and what a person calls them."""
_HASH: Final = re.compile(r"\b0x[0-9a-f]{64}\b")
DETOURS: Final = {"tools": "choose_vendor", "recover": "monitor", "cancel": "monitor"}


def picture(answer: Json, last: int = 8) -> RenderableType:
    """A run's status, as the API gives it, for a person."""
    run, names = answer["run"], Names(answer.get("vendorNames", {}))
    parts: list[RenderableType] = [_money(run, answer.get("payments", ()))]
    if run["status"] == "running":
        parts = [_stations(str(run.get("phase") or "")), "", *parts]
    if left_out := run.get("notUsed"):
        parts += ["", Text(f"Not used: {', '.join(map(str, left_out))}.", style="yellow")]
    for waiting in answer.get("approvals", ()):
        if waiting["state"] == "pending":
            parts += ["", _to_be_approved(run, waiting, names)]
    for title, table in (
        ("Jobs", _jobs(answer, names)),
        ("Payments", _payments(answer.get("payments", ()), names)),
    ):
        if table.row_count:
            parts += ["", Text(title, style="bold"), table]
    if used := _model(run.get("model") or {}):
        parts += ["", Text.assemble(("Model   ", "bold"), used)]
    for job in answer.get("jobs", ()):
        if path := job.get("artifactPath"):
            parts += ["", Text.assemble(("Result  ", "bold"), (str(path), "green"))]
    entries = answer.get("observations", ())[-last:] if last else ()
    if entries:
        parts += ["", Text("Last entries of the journal", style="bold")]
        parts.append(_entries(entries, names))
    style = STYLES.get(run["status"], "")
    does = DOES.get(str(run.get("phase") or ""), "")
    phase = f" · {does}" if does and run["status"] == "running" else ""
    state = Text(f"{run['status']}{phase}", style=style)
    return _Framed(Group(*parts), str(run.get("goal", "")), state, str(run["_id"]))


def run_list(runs: Sequence[Json]) -> Table:
    """Runs as the API lists them, a line each, in any width."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("Run", no_wrap=True)
    table.add_column("Status", no_wrap=True, min_width=9)
    table.add_column("Goal", no_wrap=True, ratio=1)
    table.add_column("Spent of", justify="right", no_wrap=True, min_width=11)
    for run in runs:
        status = Text(str(run["status"]), style=STYLES.get(run["status"], ""))
        goal, waits = str(run["goal"]), run.get("waitingFor")
        if run["status"] == "running" and (waits or run.get("phase") == "approve"):
            status = Text("waits for you", style="yellow")
            goal = f"{waits} · {goal}" if waits else goal
        money = f"{Usd.parse(run['spent'])} {Usd.parse(run['budgetTotal'])}"
        table.add_row(str(run["_id"]), status, _OneLine(goal), money)
    return table


class _Framed:
    """A run in a frame, with its state in the top line, however long the goal before it is."""

    def __init__(self, body: RenderableType, goal: str, state: Text, run_id: str) -> None:
        self._body = body
        self._goal = " ".join(goal.split())
        self._state = state
        self._run_id = run_id

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - self._state.cell_len - 8  # corners, and blanks around
        goal = Text(self._goal)
        goal.truncate(max(room, 0), overflow="ellipsis")
        yield Panel(
            self._body,
            title=Text.assemble(goal, "  " if goal else "", self._state),
            title_align="left",
            subtitle=f"run {self._run_id}",
            subtitle_align="right",
            border_style=self._state.style,
            padding=(1, 2),
        )


class _OneLine:
    """Words in one line, however narrow: what does not fit is left out from a word's end on."""

    def __init__(self, words: str) -> None:
        self._words = " ".join(words.split())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        cut = shorten(self._words, width, placeholder=" …")
        line = Text(self._words if cut.strip() == "…" else cut)
        line.truncate(width, overflow="ellipsis")  # wide characters, and words without an end
        yield line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, max(1, len(self._words)))


def money_of(run: Json, payments: Sequence[Json]) -> tuple[Usd, Usd, Usd]:
    """(total, spent, reserved) of a run's budget; spent is what its payments say."""
    total, left = Usd.parse(run["budgetTotal"]), Usd.parse(run["budgetRemaining"])
    paid = [p for p in payments if p["status"] == "completed"]
    spent = sum((Usd.parse(p["amount"]) for p in paid), ZERO)
    refunded = sum((Usd.parse(p.get("refunded") or 0) for p in paid), ZERO)
    return total, spent - refunded, total - left - (spent - refunded)


def _stations(phase: str) -> Text:
    """The way from the goal to the job, and where the run is on it."""
    here = DETOURS.get(phase, phase)
    passed = list(STATIONS).index(here) if here in STATIONS else -1
    line = Text()
    for number, name in enumerate(STATIONS.values()):
        line.append(" › " if number else "", style="dim")
        style = "green" if number < passed else "bold reverse cyan" if number == passed else "dim"
        line.append(f" {name} " if number == passed else name, style=style)
    return line.append(f"  {phase}", style="yellow") if phase in DETOURS else line


def _to_be_approved(run: Json, approval: Json, names: Names) -> Text:
    amount, vendor = Usd.parse(approval["amount"]), names[str(approval["vendorId"])]
    what = approval.get("what") or f"{amount} to {vendor}"  # an older server says no more
    return Text.assemble(
        (f"Waiting for your approval: {what}", "bold yellow"),
        f"\n  gpu-renter approve {run['_id']}      (or add --reject)",
    )


def _money(run: Json, payments: Sequence[Json]) -> RenderableType:
    total, spent, reserved = money_of(run, payments)
    return Text.assemble("Budget ", (str(total), "bold"), "  ", budget_line(total, spent, reserved))


def _model(used: Json) -> str:
    cost = used.get("cost")
    shown = "" if cost is None else str(Usd.parse(cost))
    return model_use(used.get("calls", 0), used.get("tokensIn", 0), used.get("tokensOut", 0), shown)


def _jobs(answer: Json, names: Names) -> Table:
    table = _table()
    lines = [e["content"] for e in answer.get("observations", ()) if e["type"] == NoteType.JOB_LOG]
    jobs = answer.get("jobs", ())
    for number, job in enumerate(jobs):
        state, style = str(job["status"]), STYLES.get(job["status"], "")
        share = float(job.get("progress") or 0)
        error = str(job.get("errorMessage") or "")
        curve = losses(lines) if number == len(jobs) - 1 and not error else ""
        table.add_row(
            Text(names[str(job["vendorId"])]),
            Text(state, style=style),
            progress_bar(share, style, BAR_CELLS),
            f"{share:.0%}",
            _of_job(job, error, curve),
        )
    return table


def _of_job(job: Json, error: str, curve: str) -> Text:
    """What there is to say of a job beside its progress."""
    if error:
        return Text(error, style="red")
    if job.get("waitingFor"):
        return Text("more time waits for you", style="yellow")
    return Text(f"loss {curve}" if curve else "")


def _payments(payments: Sequence[Json], names: Names) -> Table:
    table = _table()
    for payment in payments:
        back = Usd.parse(payment.get("refunded") or 0)
        table.add_row(
            Text(names[str(payment.get("vendorId", ""))]),
            f"{Usd.parse(payment['amount'])}{f', {back} back' if back else ''}",
            Text(str(payment["status"]), style=STYLES.get(payment["status"], "")),
            short(str(payment.get("x402TxId") or "")),
        )
    return table


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True)
    return table


def _entries(entries: Sequence[Json], names: Names) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for entry in entries:
        words = _HASH.sub(lambda tx: short(tx[0]), named(str(entry["content"]), names))
        text = Text(words, style=TONES.get(NoteType(entry["type"]).tone, ""))
        for line in how_decided(str(entry["type"]), entry.get("data") or {}):
            text.append(f"\n{named(line, names)}", style="not bold dim")
        table.add_row(str(entry["type"]), text)
    return table
