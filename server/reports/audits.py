"""A run's journal in order, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.journal import Entry, NoteType, first_broken
from domain.money import Usd
from ledger.ledger import Ledger
from ledger.observations import UNREADABLE
from ledger.pruned import PrunedRun
from ledger.run import Run
from ledger.spenders import no_run
from ledger.store import Documents
from server.api.report_schemas import AuditAnswer, AuditEntry, AuditHead
from tools.payments.judge import facts

PAYMENTS: Final = (NoteType.PAYMENT_AUTHORIZED, NoteType.PAYMENT_BOOKED)
IN_VAIN: Final = (NoteType.PAYMENT_RELEASED, NoteType.PAYMENT_REFUSED, NoteType.PAYMENT_EXPIRED)
_FIELDS: Final = ("type", "content", "data", "createdAt", "prevHash", "hash", "seq")


async def find_run(ledger: Ledger, run_id: str) -> Run | PrunedRun:
    """Find a run, or what was kept of a removed one. Raises NotFound."""
    found = await ledger.spenders.find(run_id) or await ledger.pruned.find(run_id)
    if found is None:
        raise no_run(run_id)
    return found


async def audit_of(ledger: Ledger, found: Run | PrunedRun) -> AuditAnswer:
    """Examine a run's journal; of a removed run, tell what was kept when it was removed."""
    if isinstance(found, PrunedRun):
        return _removed_answer(found)
    try:
        entries = await ledger.observations.of_run(found.id)
    except UNREADABLE:
        broken, problem = await _unreadable(found, ledger.observations.documents)
        return _answer(found, [], broken, problem)
    return _answer(found, entries, *examine(found, entries))


async def _unreadable(run_: Run, documents: Documents) -> tuple[int, str]:
    """The first entry of a journal that lacks a field: it is broken there, if not before."""
    found = await documents.find({"runId": run_.id}, sort=[("seq", 1)])
    for place, document in enumerate(found, start=1):
        lost = [name for name in _FIELDS if document.get(name) is None]
        if lost:
            return place, f"it lacks {', '.join(lost)}"
    return 1, "it cannot be read"


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
    return unapproved(entries)


def unapproved(entries: list[Entry]) -> tuple[int | None, str]:
    """The first payment that needed an approval and is not covered by one noted before it.

    Each payment is noted with the threshold in force when it was signed, and with what was held
    against it. An approval covers its payee alone, up to its amount: what was paid before it was
    asked, and all payments on it that did not come to nothing.
    """
    approvals: dict[str, Mapping[str, Any]] = {}
    counted: dict[str, dict[str, int]] = {}
    for entry in entries:
        kind, data = entry.note.type, entry.note.data
        if kind is NoteType.APPROVAL_USED:
            approvals[data["approvalId"]] = data
        for paid in counted.values() if kind in IN_VAIN else ():
            paid.pop(data.get("paymentId", ""), None)
        threshold, at_stake = (data.get(name) for name in ("thresholdMicros", "atStakeMicros"))
        if kind not in PAYMENTS or type(threshold) is not int or type(at_stake) is not int:
            continue
        amount = int(data["amountMicros"])
        if max(at_stake, amount) <= threshold:
            continue
        payment = f"the payment of {Usd(amount)} to {data['vendorId']}"
        approval_id = data.get("approvalId")
        yes = approvals.get(str(approval_id))
        if yes is None:
            return entry.seq, (
                f"{payment} needed an approval, for {Usd(at_stake)} is above {Usd(threshold)}, "
                "and there is none before it"
            )
        if "payTo" not in yes:  # an older version noted no more of it
            continue
        payee, agreed = str(data["payTo"]).lower(), str(yes["payTo"]).lower()
        if data["vendorId"] != yes["vendorId"] or (agreed and payee not in ("", agreed)):
            return entry.seq, f"{payment} is on {approval_id}, which was for {yes['vendorId']}"
        on_it = counted.setdefault(str(approval_id), {})
        on_it[data["paymentId"]] = amount
        total = yes["paidMicros"] + sum(on_it.values())
        if total > yes["amountMicros"]:
            return entry.seq, (
                f"with {payment}, {Usd(total)} was paid on {approval_id}, which allowed "
                f"{Usd(yes['amountMicros'])}"
            )
    return None, ""


def _answer(run_: Run, entries: list[Entry], broken: int | None, problem: str) -> AuditAnswer:
    return AuditAnswer.of(
        run_,
        run_id=run_.id,
        budget_total_micros=run_.budget_total.micros,
        spent_micros=run_.spent.micros,
        whole=broken is None,
        broken_seq=broken,
        problem=problem,
        head=AuditHead(seq=len(entries), hash=entries[-1].hash if entries else ""),
        entries=[_entry(e, run_) for e in entries],
    )


def _removed_answer(removed: PrunedRun) -> AuditAnswer:
    return AuditAnswer.of(
        removed,
        run_id=removed.id,
        goal="",
        budget_total_micros=removed.budget_total.micros,
        spent_micros=removed.spent.micros,
        whole=True,
        broken_seq=None,
        problem="",
        head=removed.journal,
        entries=[],
        pruned_at=removed.pruned_at.isoformat(),
        payments=[dict(facts(payment)) for payment in removed.payments],
    )


def _entry(e: Entry, run_: Run) -> AuditEntry:
    vendor = e.note.data.get("vendorId")
    return AuditEntry.of(
        e,
        at=e.created_at.isoformat(),
        who=f"{run_.user_id} → {vendor}" if vendor else run_.user_id,
        type=e.note.type,
        what=e.note.content,
        data=e.note.data,
    )
