"""`gpu-renter audit`: a run's journal in order, and whether it is whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from domain.errors import InvalidInput
from domain.journal import Entry, first_broken
from domain.money import Usd
from ledger.pruned import PrunedRun
from ledger.runs import no_run
from server.commands.output import Exit, JsonOption, print_json, print_problem, working
from server.commands.process import run
from tools.payments.judge import facts

if TYPE_CHECKING:
    from ledger.run import Run

REFUNDS: Final = ("refund_claimed", "payment_refunded")


@dataclass(frozen=True, slots=True)
class Audit:
    """A run's journal, and the first thing that is wrong with it."""

    run: Run
    entries: list[Entry]
    broken_seq: int | None
    problem: str


def audit(
    run_id: Annotated[str, typer.Argument(help="The run's id.", metavar="RUN")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Only say whether it is whole; print no entries.")
    ] = False,
    as_json: JsonOption = False,
    output: Annotated[
        Path | None, typer.Option(help="Write the JSON into this file instead.", metavar="FILE")
    ] = None,
) -> None:
    """Show what a run did, why, and what it paid; and verify that nothing of it was changed.

    Each entry is bound to the one before by a hash, and the run itself names the last one.
    Exit status 1 when an entry was changed, removed, moved or put in: its number is named.

    [dim]$[/] gpu-renter audit 66a1f2c9d53a3f9ef1f0c123
    [dim]$[/] gpu-renter audit 66a1f2c9d53a3f9ef1f0c123 --output audit.json
    """
    with working("Reading the journal"):
        audited = run(_audit(run_id))
    if isinstance(audited, PrunedRun):
        _tell_removed(audited, as_json=as_json, output=output)
        return
    document = _as_json(audited, with_entries=not verify)
    if output is not None:
        _write(output, json.dumps(document, indent=2, ensure_ascii=False))
    if as_json:
        print_json(document)
    else:
        if output is None and not verify:
            _print(audited)
        if audited.broken_seq is None:
            head = audited.entries[-1].hash if audited.entries else "none"
            typer.echo(f"The journal is whole: {len(audited.entries)} entries, the last is {head}")
    if audited.broken_seq is not None:
        print_problem(f"The journal is broken at entry {audited.broken_seq}: {audited.problem}")
        raise typer.Exit(Exit.FAILED)


async def _audit(run_id: str) -> Audit | PrunedRun:
    from server.commands.money import money_settings, open_money

    async with open_money(money_settings()) as opened:
        run_ = await opened.ledger.runs.find(run_id)
        if run_ is None:
            removed = await opened.ledger.pruned.find(run_id)
            if removed is not None:
                return removed
            raise no_run(run_id)
        try:
            entries = await opened.ledger.observations.of_run(run_id)
        except (KeyError, TypeError):
            return await _readable(run_, opened.ledger.observations.documents)
    broken, problem = examine(run_, entries)
    return Audit(run_, entries, broken, problem)


def _tell_removed(removed: PrunedRun, *, as_json: bool, output: Path | None) -> None:
    """What stays of a run that `prune` removed."""
    document = {
        "runId": removed.id,
        "userId": removed.user_id,
        "status": removed.status.value,
        "budgetTotalMicros": removed.budget_total.micros,
        "spentMicros": removed.spent.micros,
        "prunedAt": removed.pruned_at.isoformat(),
        "head": {"seq": removed.journal.seq, "hash": removed.journal.hash},
        "payments": [dict(facts(payment)) for payment in removed.payments],
    }
    if output is not None:
        _write(output, json.dumps(document, indent=2, ensure_ascii=False))
    if as_json:
        print_json(document)
        return
    typer.echo(
        f"Run {removed.id} of {removed.user_id} is {removed.status.value}; it spent "
        f"{removed.spent} of {removed.budget_total}"
    )
    typer.echo(
        f"It was removed on {removed.pruned_at:%Y-%m-%d}. Its journal was whole and had "
        f"{removed.journal.seq} entries, the last was {removed.journal.hash}"
    )


async def _readable(run_: Run, documents: Any) -> Audit:
    """The audit of a journal in which an entry lacks a field: it is broken there, if not before."""
    fields = ("type", "content", "data", "createdAt", "prevHash", "hash", "seq")
    found = await documents.find({"runId": run_.id}, sort=[("seq", 1)])
    for place, document in enumerate(found, start=1):
        lost = [name for name in fields if document.get(name) is None]
        if lost:
            return Audit(run_, [], place, f"it lacks {', '.join(lost)}")
    return Audit(run_, [], 1, "it cannot be read")


def examine(run_: Run, entries: list[Entry]) -> tuple[int | None, str]:
    """The first broken entry's number and what is wrong with it; None where all is whole.

    The chain alone cannot tell that its end is missing: the run's own note of the head does. The
    note may lag behind (a crash after writing entries), so the head must be in the journal, not
    last in it.
    """
    broken = first_broken(entries)
    if broken is not None:
        return broken, "it does not follow from the entries before it"
    seq, head = run_.journal_seq, run_.journal_hash
    if seq > len(entries):
        return len(entries) + 1, f"the run names {seq} entries and only {len(entries)} are there"
    if seq > 0 and entries[seq - 1].hash != head:
        return seq, "its hash is not the one that the run names: the end was written anew"
    return None, ""


def _as_json(audited: Audit, *, with_entries: bool) -> dict[str, Any]:
    run_, entries = audited.run, audited.entries
    document: dict[str, Any] = {
        "runId": run_.id,
        "userId": run_.user_id,
        "goal": run_.goal,
        "status": run_.status.value,
        "budgetTotalMicros": run_.budget_total.micros,
        "spentMicros": run_.spent.micros,
        "whole": audited.broken_seq is None,
        "brokenSeq": audited.broken_seq,
        "problem": audited.problem,
        "head": {"seq": len(entries), "hash": entries[-1].hash if entries else ""},
    }
    if with_entries:
        document["entries"] = [_entry(e, run_) for e in entries]
    return document


def _entry(e: Entry, run_: Run) -> dict[str, Any]:
    return {
        "seq": e.seq,
        "at": e.created_at.isoformat(),
        "who": _who(e, run_),
        "type": e.note.type,
        "what": e.note.content,
        "data": dict(e.note.data),
        "prevHash": e.prev_hash,
        "hash": e.hash,
    }


def _who(e: Entry, run_: Run) -> str:
    """For whom, and with whom."""
    vendor = e.note.data.get("vendorId")
    return f"{run_.user_id} → {vendor}" if vendor else run_.user_id


def _print(audited: Audit) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tools.wire.untrusted import clean_text

    run_ = audited.run
    console = Console(highlight=False)
    console.print(Text(clean_text(f"Run {run_.id} of {run_.user_id}: {run_.goal}", 500)))
    console.print(f"{run_.status.value}; spent {run_.spent} of {run_.budget_total}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("#", "When (UTC)", "What", "Amount", "Why"):
        right = heading in ("#", "Amount")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for e in audited.entries:
        table.add_row(
            str(e.seq),
            f"{e.created_at:%m-%d %H:%M:%S}",
            Text(clean_text(e.note.type, 60)),
            _amount(e),
            Text(clean_text(e.note.content, 2_000)),
        )
    console.print(table)


def _amount(e: Entry) -> str:
    """What the entry is about in money: of a refund, what came back beside what was paid."""
    paid, back = (e.note.data.get(name) for name in ("amountMicros", "refundedMicros"))
    if type(paid) is not int:
        return ""
    if type(back) is int and back:
        return f"{Usd(paid)}\n{Usd(back)} back"
    # What a vendor claims, and what came back by an older version's journal, is in words only.
    return "" if e.note.type in REFUNDS else str(Usd(paid))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput("--output", f"{path} cannot be written ({error.strerror})") from None
