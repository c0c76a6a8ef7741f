"""A run, as it is stored: what it asked for, what its money does, and who works on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AliasPath, BeforeValidator, Field, PlainSerializer

from domain.clocks import LONGEST_LEASE, impossible
from domain.errors import LeaseLost
from domain.jobs import JobSpec, RunStatus
from domain.mapping import Id, Mapped, Object
from domain.money import ZERO, Usd
from domain.quotes import Quote
from domain.tokens import UNUSED, ModelUse
from ledger.holder import Holder
from ledger.store import Document


def model_counts(used: ModelUse) -> Document:
    """A model's use as it is stored: without a cost where none is known."""
    return {name: count for name, count in used.document().items() if count is not None}


StoredUse = Annotated[
    ModelUse, BeforeValidator(lambda stored: stored or {}), PlainSerializer(model_counts)
]


@dataclass(frozen=True, slots=True)
class Reservation(Mapped):
    """Money taken off a run's budget for one slot, until that slot is closed."""

    slot: int
    amount: Usd
    shared: bool = False
    """True when more than one vendor may hold an authorization for the slot."""
    allowance: str | None = None
    """Where the amount counts against the user's caps, if there are any."""
    armed: tuple[str, ...] = ()
    """The payments that may have been sent; where there are any, only the chain closes the slot."""
    version: int = 0
    """Grows with each change, so that a decision made on an older version is not carried out."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a run. `fence` grows with each tick; an old one writes nothing."""

    run_id: str
    fence: int
    expires_at: datetime

    def check(self, now: datetime) -> None:
        """Raise LeaseLost when it has run out: another may hold the run by now."""
        if now >= self.expires_at:
            raise LeaseLost(f"The lease on run {self.run_id} ran out", "Tick it again")


@dataclass(frozen=True, slots=True)
class HeldLease(Mapped):
    """A lease as the run's document shows it to those who do not hold it."""

    expires_at: datetime
    seconds: float = LONGEST_LEASE.total_seconds()
    """How long it is taken for, and each renewal prolongs it by."""
    holder: Holder | None = None
    """The process that holds it; None where an older version took it."""

    def lasts(self, now: datetime) -> bool:
        """Whether it keeps others from the run. One that ends impossibly late has run out."""
        longest = timedelta(seconds=self.seconds)
        return self.expires_at > now and not impossible(self.expires_at, now, longest)

    def silent(self, now: datetime) -> bool:
        """Whether its holder has ended. Where that cannot be seen from here: whether it has missed
        two renewals, which it makes at each third of its time.
        """
        if self.holder is not None and not self.holder.elsewhere:
            return self.holder.gone
        return self.expires_at - now < timedelta(seconds=self.seconds / 3)


@dataclass(frozen=True, slots=True)
class RecordedOffer:
    """A quote, and whether it was taken, or why not."""

    quote: Quote
    verdict: str

    def document(self) -> Document:
        return self.quote.document() | {"verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Silence(Mapped):
    """A vendor that could do the job and made no offer, and why."""

    vendor_id: str
    why: str
    reason_data: Object = field(default_factory=dict)
    """The code of `why` and its fields, where it is a reason of ours."""


@dataclass(frozen=True, slots=True)
class LastPoll(Mapped):
    """What the last poll found of the job at work.

    It stands in the run's document, which each tick writes at its end anyway, so that a job that
    only goes on costs no write of its own. The job's document has it once the job has ended.
    """

    job_id: str
    at: datetime
    progress: float
    progress_at: datetime
    """When progress was last seen to grow."""
    lines: Annotated[int, Field(alias="logLines")]
    """The vendor's log lines that are in the journal already."""
    poll_failures: int
    """Polls in a row that got no usable answer."""
    failing_since: datetime | None = None
    """When the first of them was."""
    seen_in: int = 0
    """The number (fence) of the tick that saw it. It tells what is newer; a clock may be set back.
    """
    used_minutes: float = 0.0
    """How much of the paid time is used, by the vendor's word; 0 where it does not say."""


@dataclass(frozen=True, slots=True)
class Run(Mapped):
    """A run as stored, or a purchase, which has no phase, spec or job.

    At any moment budget_total = budget_remaining + spent + reservations.
    """

    id: Id
    user_id: str
    goal: str
    status: RunStatus
    budget_total: Usd
    budget_remaining: Usd
    spent: Usd
    next_slot: int
    reservations: Annotated[tuple[Reservation, ...], BeforeValidator(_by_slot)]
    fence: int
    journal_seq: Annotated[int, Field(validation_alias=AliasPath("journal", "seq"))]
    journal_hash: Annotated[str, Field(validation_alias=AliasPath("journal", "hash"))]
    created_at: datetime
    updated_at: datetime
    phase: str = ""
    """The graph node that is next; a hint, the checkpoint decides."""
    spec: Annotated[JobSpec | None, Field(alias="jobSpec")] = None
    job_id: Annotated[str | None, Field(alias="currentJobId")] = None
    """The job at work now, or the last one."""
    last_poll: Annotated[LastPoll | None, Field(alias="sighting")] = None
    reason: str = ""
    """Why the run ended, where it did not complete."""
    reason_data: Object = field(default_factory=dict)
    offers: tuple[Annotated[RecordedOffer, BeforeValidator(_offer)], ...] = ()
    """What was on offer when the agent last chose."""
    no_quotes: tuple[Silence, ...] = ()
    """Who made no offer then."""
    model: StoredUse = UNUSED
    """What its model calls used, and cost."""
    cancel_requested: str = ""
    """Why the run is to be cancelled; empty when it is not."""
    refunds: tuple[str, ...] = field(default=())
    """The refunds that are in the budget already (Payment.refund)."""
    held: Annotated[HeldLease | None, Field(alias="lease")] = None
    """Its last holder's lease; None when it was given back."""
    ended_at: datetime | None = None
    due_at: datetime | None = None
    """When it is to be ticked next; None when only a person, or nothing, can move it."""
    quiet_ticks: int = 0
    """Ticks in a row without news."""
    not_used: tuple[str, ...] = ()
    """What the goal says and the run leaves out."""
    accepted: Annotated[tuple[str, ...], Field(alias="acceptedNotUsed")] = ()
    """Those of it that are the person's own to run, and that they have said yes to."""

    def with_reservation(self, held: Reservation) -> Run:
        """This run, with the slot's reservation as it is now."""
        others = (r for r in self.reservations if r.slot != held.slot)
        return replace(self, reservations=tuple(sorted((*others, held), key=lambda r: r.slot)))

    @property
    def leased_until(self) -> datetime | None:
        """When its last holder's lease ends; None when it was given back."""
        return self.held.expires_at if self.held else None

    @property
    def reserved(self) -> Usd:
        return sum((held.amount for held in self.reservations), ZERO)

    def reservation(self, slot: int) -> Reservation | None:
        return next((r for r in self.reservations if r.slot == slot), None)


def _by_slot(stored: Document) -> list[Document]:
    """Reservations as a list; one without `armed` or `version` fails to be read."""
    slots = sorted(stored, key=int)
    return [{"slot": n, "armed": None, "version": None, **stored[n]} for n in slots]


def _offer(stored: Document) -> RecordedOffer:
    return RecordedOffer(Quote.of(stored), stored["verdict"])
