"""Runs: what was asked, how far it is, and who works on it now (the lease)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from domain.errors import LeaseHeld, LeaseLost, NotFound
from domain.jobs import JobSpec, Preference, RunStatus
from domain.money import ZERO, Usd
from domain.quotes import Quote
from ledger.store import Document, Documents, Store

COLLECTION: Final = "runs"
LONGEST_RUN_ID: Final = 64
FETCH: Final = "fetch"
"""The phase of a run that is one purchase by a person, and is never ticked."""


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
    cancel_requested: str = ""
    """Why the run is to be cancelled; empty when it is not."""
    refunds: tuple[str, ...] = field(default=())
    """Transactions whose refund is in the budget already."""

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

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes(
            [
                IndexModel([("userId", ASCENDING), ("createdAt", ASCENDING)]),
                IndexModel([("status", ASCENDING)]),
            ]
        )

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
                "createdAt": now,
                "updatedAt": now,
            }
        )
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
        return await self.documents.change(
            run_id,
            {"status": RunStatus.RUNNING.value},
            {"$set": {"cancelRequested": why, "updatedAt": now}},
        )

    async def acquire(self, run_id: str, now: datetime, seconds: float) -> tuple[Run, Lease]:
        """Take the run's lease. Raises NotFound, or LeaseHeld while another holder's lasts."""
        expires_at = now + timedelta(seconds=seconds)
        taken = await self.documents.change(
            run_id,
            {"$or": [{"lease": None}, {"lease.expiresAt": {"$lte": now}}]},
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
        self, lease: Lease, now: datetime, fields: Mapping[str, Any] | None = None
    ) -> bool:
        """Give the lease back, with a last change. False when it was lost: nothing changed."""
        return await self.documents.change(
            lease.run_id,
            {"fence": lease.fence},
            {"$set": {"lease": None, "updatedAt": now, **(fields or {})}},
        )

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

    async def end(self, lease: Lease, status: RunStatus, reason: str, now: datetime) -> None:
        await self.update(
            lease, {"status": status.value, "reason": reason, "endedAt": now, "updatedAt": now}
        )


def spec_document(spec: JobSpec) -> Document:
    return {
        "jobType": spec.job_type,
        "gpuType": spec.gpu_type,
        "gpuCount": spec.gpu_count,
        "minutes": spec.minutes,
        "preference": spec.preference.value if spec.preference else None,
        "excludedVendors": list(spec.excluded_vendors),
        "guessed": list(spec.guessed),
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
        cancel_requested=document["cancelRequested"],
        refunds=tuple(document["refunds"]),
    )
