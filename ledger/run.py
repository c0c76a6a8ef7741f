"""A run, as it is stored: what it asked for, what its money does, and who works on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from domain.clocks import LONGEST_LEASE, impossible
from domain.errors import LeaseLost
from domain.jobs import JobSpec, Preference, RunStatus
from domain.money import ZERO, Usd
from domain.quotes import Quote
from domain.tokens import UNUSED, ModelUse
from ledger.holder import Holder, holder_of
from ledger.store import Document


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money taken off a run's budget for one slot, until that slot is closed."""

    slot: int
    amount: Usd
    shared: bool = False
    """True when more than one vendor may hold an authorization for the slot."""
    allowance: str | None = None
    """Where the amount counts against the user's caps, if there are any."""
    armed: tuple[str, ...] = ()
    """The payments that may have been sent: then only the chain closes the slot."""
    version: int = 0
    """Grows with each change, so that a decision made on an old one is not carried out."""


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
class HeldLease:
    """A lease as the run's document has it, to whoever does not hold it."""

    expires_at: datetime
    seconds: float
    """For how long it is taken, and each time prolonged."""
    holder: Holder | None
    """None where an older version took it."""

    def lasts(self, now: datetime) -> bool:
        """Whether nobody else may have the run. One that could not be so long has run out."""
        longest = timedelta(seconds=self.seconds)
        return self.expires_at > now and not impossible(self.expires_at, now, longest)

    def silent(self, now: datetime) -> bool:
        """Whether its holder has ended; or, where that cannot be seen from here, has missed two of
        the renewals that it makes at each third of its time.
        """
        if self.holder is not None and not self.holder.elsewhere:
            return self.holder.gone
        return self.expires_at - now < timedelta(seconds=self.seconds / 3)


@dataclass(frozen=True, slots=True)
class RecordedOffer:
    """A quote, and what became of it: taken, or why not."""

    quote: Quote
    verdict: str


@dataclass(frozen=True, slots=True)
class Silence:
    """A vendor that could do the job and made no offer, and why."""

    vendor_id: str
    why: str


@dataclass(frozen=True, slots=True)
class LastPoll:
    """What the last poll found of the job at work.

    It stands in the run's document, which each tick writes at its end anyway, so that a job that
    only goes on costs no write of its own. The job's document has it once the job has ended.
    """

    job_id: str
    at: datetime
    progress: float
    progress_at: datetime
    """When progress was last seen to grow."""
    lines: int
    """The vendor's log lines that are in the journal already."""
    poll_failures: int
    """Polls in a row that got no usable answer."""
    failing_since: datetime | None = None
    """When the first of them was."""
    seen_in: int = 0
    """The tick that saw it, by its number, the fence. Not the clock, which may be set back, says
    what is newer.
    """
    used_minutes: float = 0.0
    """Of the paid time, by the vendor's word; 0 where it does not say."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as stored, or a purchase, which has no phase, spec or job.

    At any moment budget_total = budget_remaining + spent + reservations.
    """

    id: str
    user_id: str
    goal: str
    status: RunStatus
    phase: str
    """The graph node that is next; a hint, the checkpoint decides."""
    budget_total: Usd
    budget_remaining: Usd
    spent: Usd
    next_slot: int
    reservations: tuple[Reservation, ...]
    spec: JobSpec | None
    job_id: str | None
    """The job at work now, or the last one."""
    fence: int
    journal_seq: int
    journal_hash: str
    created_at: datetime
    updated_at: datetime
    last_poll: LastPoll | None = None
    reason: str = ""
    """Why the run ended, where it did not complete."""
    offers: tuple[RecordedOffer, ...] = ()
    """What was on offer when the agent last chose."""
    no_quotes: tuple[Silence, ...] = ()
    """Who made no offer then."""
    model: ModelUse = UNUSED
    """What its model calls used, and cost."""
    cancel_requested: str = ""
    """Why the run is to be cancelled; empty when it is not."""
    refunds: tuple[str, ...] = field(default=())
    """The refunds that are in the budget already (Payment.refund)."""
    leased_until: datetime | None = None
    """When its last holder's lease ends; None when it was given back."""
    held: HeldLease | None = None
    """The same lease, and whose it is."""
    ended_at: datetime | None = None
    due_at: datetime | None = None
    """When it is to be ticked next; None when only a person, or nothing, can move it."""
    quiet_ticks: int = 0
    """Ticks in a row that told no news."""
    not_used: tuple[str, ...] = ()
    """What the goal says and the run leaves out."""
    accepted: tuple[str, ...] = ()
    """Those of it that are the person's own to run, and that they have said yes to."""

    def with_reservation(self, held: Reservation) -> Run:
        """This run, with the slot's reservation as it is now."""
        others = (r for r in self.reservations if r.slot != held.slot)
        return replace(self, reservations=tuple(sorted((*others, held), key=lambda r: r.slot)))

    @property
    def reserved(self) -> Usd:
        return sum((held.amount for held in self.reservations), ZERO)

    def reservation(self, slot: int) -> Reservation | None:
        return next((r for r in self.reservations if r.slot == slot), None)


_LAST_POLL: Final = {
    "job_id": "jobId",
    "at": "at",
    "progress": "progress",
    "progress_at": "progressAt",
    "lines": "logLines",
    "poll_failures": "pollFailures",
    "failing_since": "failingSince",
    "seen_in": "seenIn",
    "used_minutes": "usedMinutes",
}


def last_poll_document(seen: LastPoll) -> Document:
    return {stored: getattr(seen, name) for name, stored in _LAST_POLL.items()}


def last_poll_of(run: Document) -> LastPoll | None:
    """run: its document, or its field `sighting` alone."""
    seen = run.get("sighting")
    if not seen:
        return None
    return LastPoll(**{name: seen[stored] for name, stored in _LAST_POLL.items() if stored in seen})


def spec_document(spec: JobSpec) -> Document:
    return {
        "jobType": spec.job_type,
        "gpuType": spec.gpu_type,
        "gpuCount": spec.gpu_count,
        "minutes": spec.minutes,
        "preference": spec.preference.value if spec.preference else None,
        "excludedVendors": list(spec.excluded_vendors),
        "guessed": list(spec.guessed),
        "deadline": spec.deadline,
        "onlyVendors": list(spec.only_vendors),
        "gpuTypes": list(spec.gpu_types),
        "maxHourly": spec.max_hourly.micros if spec.max_hourly else None,
    }


def _spec(document: Document) -> JobSpec:
    preference = document["preference"]
    return JobSpec(
        job_type=document["jobType"],
        gpu_type=document["gpuType"],
        gpu_count=document["gpuCount"],
        minutes=document["minutes"],
        preference=Preference(preference) if preference else None,
        excluded_vendors=tuple(document["excludedVendors"]),
        guessed=tuple(document["guessed"]),
        deadline=document.get("deadline"),
        only_vendors=tuple(document.get("onlyVendors", ())),
        gpu_types=tuple(document.get("gpuTypes", ())),
        max_hourly=Usd(hourly) if (hourly := document.get("maxHourly")) else None,
    )


def offer_document(offer: RecordedOffer) -> Document:
    quote = offer.quote
    return {
        "vendorId": quote.vendor_id,
        "vendorJobTemplateId": quote.template_id,
        "gpuType": quote.gpu_type,
        "minutes": quote.minutes,
        "price": quote.price.micros,
        "etaMinutes": quote.eta_minutes,
        "expiresAt": quote.expires_at,
        "verdict": offer.verdict,
    }


def _offer(document: Document) -> RecordedOffer:
    return RecordedOffer(
        Quote(
            vendor_id=document["vendorId"],
            template_id=document["vendorJobTemplateId"],
            gpu_type=document["gpuType"],
            minutes=document["minutes"],
            price=Usd(document["price"]),
            eta_minutes=document["etaMinutes"],
            expires_at=document["expiresAt"],
        ),
        document["verdict"],
    )


def held_lease(lease: Document | None) -> HeldLease | None:
    """lease: the field of a run's document."""
    if not lease:
        return None
    longest = LONGEST_LEASE.total_seconds()
    seconds = lease.get("seconds", longest)
    return HeldLease(lease["expiresAt"], seconds, holder_of(lease.get("holder")))


def model_use(document: Document) -> ModelUse:
    cost = document.get("cost")
    return ModelUse(
        calls=document.get("calls", 0),
        tokens_in=document.get("tokensIn", 0),
        tokens_out=document.get("tokensOut", 0),
        cost=None if cost is None else Usd(cost),
    )


def model_counts(used: ModelUse) -> Document:
    """As they are stored: no cost where none is known."""
    counts = {"calls": used.calls, "tokensIn": used.tokens_in, "tokensOut": used.tokens_out}
    return counts if used.cost is None else counts | {"cost": used.cost.micros}


def run_of(document: Document) -> Run:
    return Run(
        id=document["_id"],
        user_id=document["userId"],
        goal=document["goal"],
        status=RunStatus(document["status"]),
        phase=document.get("phase", ""),
        budget_total=Usd(document["budgetTotal"]),
        budget_remaining=Usd(document["budgetRemaining"]),
        spent=Usd(document["spent"]),
        next_slot=document["nextSlot"],
        reservations=tuple(
            Reservation(
                int(slot),
                Usd(held["amount"]),
                held["shared"],
                held.get("allowance"),
                tuple(held["armed"]),
                held["version"],
            )
            for slot, held in sorted(document["reservations"].items(), key=lambda i: int(i[0]))
        ),
        spec=_spec(spec) if (spec := document.get("jobSpec")) else None,
        job_id=document.get("currentJobId"),
        last_poll=last_poll_of(document),
        fence=document["fence"],
        journal_seq=document["journal"]["seq"],
        journal_hash=document["journal"]["hash"],
        created_at=document["createdAt"],
        updated_at=document["updatedAt"],
        reason=document["reason"],
        offers=tuple(_offer(offer) for offer in document.get("offers", ())),
        no_quotes=tuple(Silence(s["vendorId"], s["why"]) for s in document.get("noQuotes", ())),
        model=model_use(document.get("model") or {}),
        cancel_requested=document["cancelRequested"],
        ended_at=document.get("endedAt"),
        refunds=tuple(document["refunds"]),
        leased_until=(document["lease"] or {}).get("expiresAt"),
        held=held_lease(document["lease"]),
        due_at=document.get("dueAt"),
        quiet_ticks=document.get("quietTicks", 0),
        not_used=tuple(document.get("notUsed", ())),
        accepted=tuple(document.get("acceptedNotUsed", ())),
    )
