"""What a vendor holds of ours, over all runs: paid, or promised to it, for time not used yet.

A slot counts from its reservation on with all it may cost; once paid, with the part of the time
that its job has not used; with nothing once it is closed unpaid, or its job has ended: that money
is earned or lost, and no longer ahead. One sum for each vendor (ledger/tallies.py). It is only
lowered where it stands in the way of a purchase, from the runs, payments and jobs themselves, so
that no crash leaves it wrong for longer than until then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from domain.errors import PolicyRefused
from domain.money import ZERO, Usd
from domain.payments import PaymentState, PurchaseKind
from ledger.jobs import Job
from ledger.ledger import Ledger
from ledger.payments import Payment
from ledger.run import Run
from ledger.tallies import Tally
from tools.payments.funds import LONG_OVER_S, last_second

RULE: Final = "max_exposure"
MOST_UNCHECKED: Final = 200
"""Sums of more slots than this are checked slot by slot, even if not full."""


class Exposure:
    def __init__(self, ledger: Ledger, now: Callable[[], datetime], *, vendors_clock: bool) -> None:
        """vendors_clock: whether a vendor's word on how much time was used goes before our clock's,
        as where jobs run in fast motion.
        """
        self._ledger = ledger
        self._now = now
        self._vendors_clock = vendors_clock

    async def room(self, vendor_id: str, bound: Usd, wanted: Usd) -> Usd:
        """The most, up to `wanted`, that the vendor may be prepaid now."""
        tally = await self._ledger.tallies.read(_id(vendor_id))
        if tally.total + wanted > bound:
            tally = await self._looked_through(tally)
        return max(ZERO, min(wanted, bound - tally.total))

    async def check(self, vendor_id: str, key: str, amount: Usd, bound: Usd) -> None:
        """Raise PolicyRefused when `amount` could not be held now. Holds nothing."""
        tally = await self._ledger.tallies.read(_id(vendor_id))
        more = max(ZERO, amount - tally.holds.get(key, ZERO))
        if more and tally.total + more > bound:
            tally = await self._looked_through(tally)
            if tally.total + more > bound:
                raise _refused(vendor_id, tally, more, bound)

    async def hold(self, vendor_id: str, key: str, amount: Usd, bound: Usd) -> None:
        """Count `amount` for a reserved slot ("run:number"); again, only what it is larger by.

        bound: the most that the vendor may be paid ahead. Raises PolicyRefused.
        """
        tally = await self._ledger.tallies.read(_id(vendor_id))
        if len(tally.holds) >= MOST_UNCHECKED and key not in tally.holds:
            tally = await self._looked_through(tally)
        if await self._ledger.tallies.hold(tally, key, amount, bound):
            return
        tally = await self._looked_through(await self._ledger.tallies.read(tally.id))
        if not await self._ledger.tallies.hold(tally, key, amount, bound):
            raise _refused(vendor_id, tally, amount - tally.holds.get(key, ZERO), bound)

    async def _looked_through(self, tally: Tally) -> Tally:
        """The sum with each slot counted as it stands now."""
        runs = {key.rpartition(":")[0] for key in tally.holds}
        books = {run.id: run for run in await self._ledger.spenders.of_ids(runs)}
        payments = await self._ledger.payments.of_runs(books)
        jobs = await self._ledger.jobs.of_runs(list(books.values()))
        for key, held in tally.holds.items():
            run_id, _, slot = key.rpartition(":")
            run = books.get(run_id)
            ours = [p for p in payments if p.run_id == run_id]
            to = ZERO if run is None else self._ahead(run, int(slot), tally, ours, jobs, held)
            await self._ledger.tallies.lower(tally, key, to)
        return await self._ledger.tallies.read(tally.id)

    def _ahead(
        self,
        run: Run,
        slot: int,
        tally: Tally,
        payments: Sequence[Payment],
        jobs: Sequence[Job],
        held: Usd,
    ) -> Usd:
        """What a slot has ahead at the vendor whose sum this is."""
        if run.reservation(slot) is not None:
            return ZERO if self._is_over(slot, payments) else held
        paid = next(
            (p for p in payments if p.slot == slot and p.state.paid and _of(tally, p)), None
        )
        if paid is None or paid.state is PaymentState.REFUNDED:
            return ZERO
        job = _job_of(paid, jobs)
        if job is None:  # not fetched, or no bytes left to ask with
            return ZERO if paid.resolved and not paid.header else min(held, paid.amount)
        if job.status.ended:
            return ZERO
        return min(held, _unused(paid, job, payments, self._used_minutes(job)))

    def _is_over(self, slot: int, payments: Sequence[Payment]) -> bool:
        """Whether any time that an open slot bought must be over, even after all that was paid
        before it: then only a person can close the slot (PaymentUnclear).
        """
        last_s = last_second([p for p in payments if p.slot == slot])
        if last_s is None:
            return False
        longest = timedelta(minutes=sum(p.minutes for p in payments))
        return self._now() >= datetime.fromtimestamp(last_s + LONG_OVER_S, UTC) + longest

    def _used_minutes(self, job: Job) -> float:
        """The used minutes that the vendor last told, but no more than our clock allows."""
        if self._vendors_clock:
            return job.used_minutes
        return min(job.used_minutes, (self._now() - job.created_at) / timedelta(minutes=1))


def _refused(vendor_id: str, tally: Tally, more: Usd, bound: Usd) -> PolicyRefused:
    return PolicyRefused(
        RULE,
        f"{vendor_id} would hold {tally.total + more} of all runs for time not used yet, above "
        f"{bound}",
        "Wait until it has earned some of it, or raise MAX_EXPOSURE_USD",
    )


def _id(vendor_id: str) -> str:
    return f"exposure|{vendor_id}"


def _of(tally: Tally, payment: Payment) -> bool:
    return tally.id == _id(payment.vendor_id)


def _job_of(payment: Payment, jobs: Sequence[Job]) -> Job | None:
    if payment.kind is PurchaseKind.EXTEND:
        return next((j for j in jobs if j.id == payment.order["jobId"]), None)
    return next((j for j in jobs if j.payment_id == payment.id), None)


def _unused(payment: Payment, job: Job, payments: Sequence[Payment], used: float) -> Usd:
    """The unused part of a payment; a job uses its purchases in turn."""
    before = sum(
        p.minutes
        for p in payments
        if p.slot < payment.slot and (p.id == job.payment_id or p.id in job.extensions)
    )
    left = min(payment.minutes, max(0.0, before + payment.minutes - used))
    if not payment.minutes:
        return payment.amount
    # Rounded up: what is ahead is never counted too small.
    return payment.amount.scaled(int(left * 60) + 1, payment.minutes * 60) if left else ZERO
