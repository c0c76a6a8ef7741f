"""What a run's journal says, read for a person: the way through the graph, choices, losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from domain.jobs import epoch
from domain.journal import Entry, NoteType
from domain.money import Usd
from graph.routing import Phase
from server.chat.decisions import how_decided

_NODE_OF: Final = {
    NoteType.JOB_SPEC: Phase.INTAKE,
    NoteType.QUOTE: Phase.CHOOSE_VENDOR,
    NoteType.APPROVAL_ASKED: Phase.APPROVE,
    NoteType.PAYMENT_AUTHORIZED: Phase.PAY,
    NoteType.PAYMENT_BOOKED: Phase.PAY,
    NoteType.JOB_STARTED: Phase.LAUNCH,
    NoteType.JOB_LOG: Phase.MONITOR,
    NoteType.RECOVERY: Phase.RECOVER,
    NoteType.RUN_CANCELLED: Phase.CANCEL,
}
"""An entry that only this node writes; each of its kind stands for a visit, but for SEVERAL."""
_SEVERAL: Final = frozenset({NoteType.QUOTE, NoteType.JOB_LOG})


@dataclass(frozen=True, slots=True)
class Quoted:
    vendor_id: str
    price: Usd | None
    """The price of `minutes`, which is paid first."""
    minutes: int | None
    whole: Usd | None
    """What the whole job costs at that rate. Entries of older versions do not say it."""
    verdict: str
    """Why it was taken or not, where that is known."""
    taken: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One comparison of vendors: what was on offer, and the reason for the decision."""

    seq: int
    reason: str
    how: tuple[str, ...]
    """How it came about, where a model was asked or missing."""
    quotes: tuple[Quoted, ...]


def logs(entries: Iterable[Entry]) -> list[Entry]:
    return [e for e in entries if e.note.type is NoteType.JOB_LOG]


def decisions(entries: Iterable[Entry]) -> list[Entry]:
    """Everything but the vendors' log lines and quotes, which have places of their own."""
    return [e for e in entries if e.note.type not in _SEVERAL]


def visits(entries: Sequence[Entry]) -> Counter[Phase]:
    """How often each node of the graph has left its mark."""
    marks: Counter[Phase] = Counter()
    before: NoteType | None = None
    for entry in entries:
        kind = entry.note.type
        node = _NODE_OF.get(kind)
        if kind is NoteType.AGENT_REASONING and not _decides(entry):
            node = Phase.ASSESS_BUDGET
        if node is not None and not (kind in _SEVERAL and kind == before):
            marks[node] += 1
        before = kind
    return marks


def choices(entries: Iterable[Entry]) -> list[Choice]:
    """The comparisons of vendors, in their order."""
    found: list[Choice] = []
    quotes: list[Entry] = []
    for entry in entries:
        if entry.note.type in (NoteType.QUOTE, NoteType.NO_QUOTE):
            quotes.append(entry)
        elif entry.note.type is NoteType.AGENT_REASONING and _decides(entry):
            taken = str(entry.note.data.get("vendorId", ""))
            how = tuple(how_decided(entry.note.type, entry.note.data))
            read = tuple(_read(q, taken) for q in quotes)
            found.append(Choice(entry.seq, _reason(entry), how, read))
            quotes = []
    return found


def losses(entries: Iterable[Entry]) -> dict[str, list[tuple[int, float]]]:
    """(epoch, loss) by job, as far as the vendors' logs say."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in logs(entries):
        if found := epoch(entry.note.content):
            job = (entry.note.key or "").split(":")[0]
            curves.setdefault(job, []).append((found[0], float(found[2])))
    return curves


def _decides(entry: Entry) -> bool:
    return "planner" in entry.note.data


def _reason(entry: Entry) -> str:
    """The reason alone; entries of older versions have it in their text only."""
    return str(entry.note.data.get("reason") or entry.note.content)


def _read(entry: Entry, taken: str) -> Quoted:
    data = entry.note.data
    vendor = str(data.get("vendorId", ""))
    minutes = data.get("minutes")
    silent = entry.note.type is NoteType.NO_QUOTE  # of an older version, it has its reason in words
    return Quoted(
        vendor_id=vendor,
        price=_usd(data.get("priceMicros")),
        minutes=minutes if isinstance(minutes, int) else None,
        whole=_usd(data.get("wholeMicros")),
        verdict=str(data.get("why") or entry.note.content) if silent else "",
        taken=bool(taken) and vendor == taken,
    )


def _usd(micros: object) -> Usd | None:
    return Usd(micros) if isinstance(micros, int) else None
