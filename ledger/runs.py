"""Runs: what was asked, how far it is, and who works on it now (the lease)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from domain.due import Due
from domain.errors import LeaseHeld, LeaseLost, NotFound
from domain.jobs import JobSpec, Preference, RunStatus
from domain.money import ZERO, Usd
from domain.quotes import Quote
from domain.tokens import UNUSED, ModelUse
from ledger.schedule import FETCH as FETCH
from ledger.schedule import Schedule, free, is_due
from ledger.store import Document, Documents, Store

COLLECTION: Final = "runs"
LONGEST_RUN_ID: Final = 64


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
    """The right to work on a run. `fence` grows with each holder; an old one writes nothing."""

    run_id: str
    fence: int
    expires_at: datetime


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
class Run:
    """A run as stored. At any moment budget_total = budget_remaining + spent + reservations."""

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
    """Transactions whose refund is in the budget already."""
    due_at: datetime | None = None
    """When it is to be ticked next; None when only a person, or nothing, can move it."""
    quiet_ticks: int = 0
    """Ticks in a row that told no news."""

    def with_reservation(self, held: Reservation) -> Run:
        """This run, with the slot's reservation as it is now."""
        others = (r for r in self.reservations if r.slot != held.slot)
        return replace(self, reservations=tuple(sorted((*others, held), key=lambda r: r.slot)))

    @property
    def reserved(self) -> Usd:
        return sum((held.amount for held in self.reservations), ZERO)

    def reservation(self, slot: int) -> Reservation | None:
        return next((r for r in self.reservations if r.slot == slot), None)


class Runs:
    def __init__(self, store: Store) -> None:
        self.documents: Documents = store.documents(COLLECTION)
        self.schedule = Schedule(self.documents)

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [
                IndexModel([("userId", ASCENDING), ("createdAt", ASCENDING)]),
                IndexModel([("status", ASCENDING)]),
            ]
        )
        await self.schedule.ensure_indexes()

    async def create(
        self,
        run_id: str,
        user_id: str,
        goal: str,
        budget: Usd,
        now: datetime,
        *,
        phase: str = "intake",
    ) -> Run:
        """A new run. Creating the same id again changes nothing and gives the first."""
        await self.documents.insert(
            {
                "_id": run_id,
                "userId": user_id,
                "goal": goal,
                "status": RunStatus.RUNNING.value,
                "phase": phase,
                "budgetTotal": budget.micros,
                "budgetRemaining": budget.micros,
                "spent": 0,
                "nextSlot": 0,
                "reservations": {},
                "jobSpec": None,
                "currentJobId": None,
                "lease": None,
                "fence": 0,
                "journal": {"seq": 0, "hash": ""},
                "refunds": [],
                "cancelRequested": "",
                "offers": [],
                "reason": "",
                "dueAt": None if phase == FETCH else now,
                "quietTicks": 0,
                "createdAt": now,
                "updatedAt": now,
            }
        )
        self.schedule.tell()
        return await self.get(run_id)

    async def find(self, run_id: str) -> Run | None:
        document = await self.documents.get(run_id)
        return _run(document) if document else None

    async def get(self, run_id: str) -> Run:
        """Raises NotFound."""
        run = await self.find(run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id[:LONGEST_RUN_ID]!r}", "Check the runId")
        return run

    async def recent(self, *, user_id: str | None = None, limit: int = 50) -> list[Run]:
        query = {"userId": user_id} if user_id else {}
        found = await self.documents.find(query, sort=[("createdAt", -1)], limit=limit)
        return [_run(document) for document in found]

    async def with_open_money(self) -> list[Run]:
        """Runs that hold a reservation, whatever their status."""
        return [_run(d) for d in await self.documents.find({"reservations": {"$ne": {}}})]

    async def all(self) -> list[Run]:
        """Every run. For reconciling, not for serving."""
        return [_run(document) for document in await self.documents.find({})]

    async def request_cancel(self, run_id: str, why: str, now: datetime) -> bool:
        """Ask for a run's end; the next tick carries it out. False when it has ended already."""
        asked = await self.documents.change(
            run_id,
            {"status": RunStatus.RUNNING.value},
            {"$set": {"cancelRequested": why, "updatedAt": now, "dueAt": now, "quietTicks": 0}},
        )
        self.schedule.tell()
        return asked

    async def acquire(
        self, run_id: str, now: datetime, seconds: float, *, due: bool = False
    ) -> tuple[Run, Lease]:
        """Take the run's lease. Raises NotFound, or LeaseHeld while another holder's lasts.

        due: only if the run is due; LeaseHeld, too, where it is not.
        """
        expires_at = now + timedelta(seconds=seconds)
        taken = await self.documents.change(
            run_id,
            {**(is_due(now) if due else {}), **free(now)},
            {"$set": {"lease": {"expiresAt": expires_at}}, "$inc": {"fence": 1}},
        )
        run = await self.get(run_id)
        if not taken:
            raise LeaseHeld(
                f"Another tick works on run {run_id}", "Try again when it is done, in a moment"
            )
        return run, Lease(run_id, run.fence, expires_at)

    async def renew(self, lease: Lease, now: datetime, seconds: float) -> Lease:
        """Prolong a lease. Raises LeaseLost when another took over."""
        expires_at = now + timedelta(seconds=seconds)
        await self.update(lease, {"lease": {"expiresAt": expires_at}})
        return replace(lease, expires_at=expires_at)

    async def release(
        self,
        lease: Lease,
        now: datetime,
        fields: Mapping[str, Any] | None = None,
        *,
        seen: Run | None = None,
        due: Due | None = None,
    ) -> bool:
        """Give the lease back, with a last change. False when it was lost: nothing changed.

        due: when the run is to be ticked next; it does not replace what somebody asked for since
        the run was `seen`. None: that stays as it is.
        """
        changes = {"lease": None, "updatedAt": now, **(fields or {})}
        if due is not None and seen is not None and await self.documents.change(
            lease.run_id,
            {"fence": lease.fence, "dueAt": seen.due_at},
            {"$set": {**changes, "dueAt": due.at, "quietTicks": due.quiet}},
        ):  # fmt: skip
            return True
        return await self.documents.change(lease.run_id, {"fence": lease.fence}, {"$set": changes})

    async def update(self, lease: Lease, fields: Mapping[str, Any]) -> None:
        """Set fields as the holder of the lease. Raises LeaseLost when another took over."""
        if not await self.documents.change(
            lease.run_id, {"fence": lease.fence}, {"$set": dict(fields)}
        ):
            raise LeaseLost(f"Another tick took over run {lease.run_id}")

    async def set_spec(self, lease: Lease, spec: JobSpec) -> None:
        await self.update(lease, {"jobSpec": spec_document(spec)})

    async def set_offers(self, lease: Lease, offers: Sequence[RecordedOffer]) -> None:
        await self.update(lease, {"offers": [_offer_document(offer) for offer in offers]})

    async def set_no_quotes(self, lease: Lease, silences: Sequence[Silence]) -> None:
        told = [{"vendorId": silence.vendor_id, "why": silence.why} for silence in silences]
        await self.update(lease, {"noQuotes": told})

    async def count_model(self, run_id: str, used: ModelUse) -> None:
        """Add what a model call used. It was used whoever holds the lease by now."""
        counts = {"calls": used.calls, "tokensIn": used.tokens_in, "tokensOut": used.tokens_out}
        if used.cost is not None:
            counts["cost"] = used.cost.micros
        added = {f"model.{name}": count for name, count in counts.items()}
        await self.documents.change(run_id, {}, {"$inc": added})

    async def end(
        self,
        lease: Lease,
        status: RunStatus,
        reason: str,
        now: datetime,
        *,
        total: Usd | None = None,
    ) -> bool:
        """End the run. False when its budget is not `total` any more: nothing changed.

        Raises LeaseLost when another took over.
        """
        unraised = {} if total is None else {"budgetTotal": total.micros}
        guard = {"fence": lease.fence, **unraised}
        fields = {"status": status.value, "reason": reason, "endedAt": now, "updatedAt": now}
        if await self.documents.change(lease.run_id, guard, {"$set": fields}):
            return True
        if (await self.get(lease.run_id)).fence != lease.fence:
            raise LeaseLost(f"Another tick took over run {lease.run_id}")
        return False


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
    )


def _offer_document(offer: RecordedOffer) -> Document:
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


def _model(document: Document) -> ModelUse:
    cost = document.get("cost")
    return ModelUse(
        calls=document.get("calls", 0),
        tokens_in=document.get("tokensIn", 0),
        tokens_out=document.get("tokensOut", 0),
        cost=None if cost is None else Usd(cost),
    )


def _run(document: Document) -> Run:
    return Run(
        id=document["_id"],
        user_id=document["userId"],
        goal=document["goal"],
        status=RunStatus(document["status"]),
        phase=document["phase"],
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
        spec=_spec(document["jobSpec"]) if document["jobSpec"] else None,
        job_id=document["currentJobId"],
        fence=document["fence"],
        journal_seq=document["journal"]["seq"],
        journal_hash=document["journal"]["hash"],
        created_at=document["createdAt"],
        updated_at=document["updatedAt"],
        reason=document["reason"],
        offers=tuple(_offer(offer) for offer in document["offers"]),
        no_quotes=tuple(Silence(s["vendorId"], s["why"]) for s in document.get("noQuotes", ())),
        model=_model(document.get("model") or {}),
        cancel_requested=document["cancelRequested"],
        refunds=tuple(document["refunds"]),
        due_at=document.get("dueAt"),
        quiet_ticks=document.get("quietTicks", 0),
    )
