"""A run's budget: taking money off it before anything is signed, and closing what was taken.

All of it is in the run document, so each step is one guarded update and needs no transaction:

    reserve   the slot is the next one,
              budgetRemaining ≥ amount     → budgetRemaining − amount, reservations.<slot>
    share     the slot is as it was read   → the same for the difference
    arm       the slot is as it was read   → an authorization may be out: only the chain closes it
    post      the slot is as it was read   → spent + settled, the rest back, slot closed
    release   the slot is as it was read   → all back, slot closed
    refund    the transaction is new       → spent − amount, budgetRemaining + amount
    raise     the request is new           → budgetTotal + amount, budgetRemaining + amount

A slot number is used once: `nextSlot` only grows. So a slot's nonce is used once too.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from domain.errors import BudgetExceeded, Conflict, LeaseLost, SlotClosed
from domain.jobs import RunStatus
from domain.money import LARGEST, ZERO, Usd
from ledger.payments import Payment
from ledger.run import Lease, Reservation, Run
from ledger.runs import Runs
from ledger.spenders import Spenders

LONGEST_RACE: Final = 8
"""Rounds of re-reading before giving up; each lost round means that another writer moved on."""
MOST_RAISES: Final = 1_000
"""The most raises of one run's budget: a bound on its document."""


class Budget:
    def __init__(self, runs: Runs, spenders: Spenders) -> None:
        """spenders: runs and purchases. Only a run's budget is raised."""
        self._runs = runs
        self._spenders = spenders
        self._documents = spenders.documents

    async def reserve(
        self, lease: Lease, run: Run, slot: int, amount: Usd, allowance: str | None = None
    ) -> Reservation:
        """Hold `amount` in `slot`; asked again, give what the slot holds.

        run: as last read; what has changed since is noticed. allowance: where the amount counts
        against the user's caps. Raises BudgetExceeded, LeaseLost,
        Conflict when the run has ended, and SlotClosed when the slot was used up before.
        """
        if amount.micros <= 0:
            raise BudgetExceeded(f"A reservation of {amount} makes no sense")
        for _ in range(LONGEST_RACE):
            _check_lease(run, lease)
            if held := run.reservation(slot):
                return held
            if slot < run.next_slot:
                raise SlotClosed(f"Slot {slot} of run {run.id} is closed already")
            _check(run, lease, amount)
            if await self._documents.change(
                run.id,
                {
                    "fence": lease.fence,
                    "status": RunStatus.RUNNING.value,
                    "nextSlot": slot,
                    "budgetRemaining": {"$gte": amount.micros},
                },
                {
                    "$inc": {"budgetRemaining": -amount.micros, "nextSlot": 1},
                    "$set": {
                        f"reservations.{slot}": {
                            "amount": amount.micros,
                            "shared": False,
                            "allowance": allowance,
                            "armed": [],
                            "version": 0,
                        }
                    },
                },
            ):
                return Reservation(slot, amount, allowance=allowance)
            run = await self._spenders.get(run.id)
        raise Conflict(f"Run {lease.run_id} changes too fast to reserve {amount}", "Try again")

    async def share(self, lease: Lease, run: Run, slot: int, amount: Usd) -> Reservation:
        """Let an open slot hold at least `amount`, for one more vendor's authorization.

        Raises BudgetExceeded, LeaseLost, Conflict, and SlotClosed.
        """
        for _ in range(LONGEST_RACE):
            held = run.reservation(slot)
            if held is None:
                raise SlotClosed(f"Slot {slot} of run {run.id} is closed already")
            larger = max(held.amount, amount)
            more = larger - held.amount
            _check(run, lease, more)
            if await self._documents.change(
                run.id,
                {
                    "fence": lease.fence,
                    "status": RunStatus.RUNNING.value,
                    f"reservations.{slot}.version": held.version,
                    "budgetRemaining": {"$gte": more.micros},
                },
                {
                    "$inc": {
                        "budgetRemaining": -more.micros,
                        f"reservations.{slot}.amount": more.micros,
                        f"reservations.{slot}.version": 1,
                    },
                    "$set": {f"reservations.{slot}.shared": True},
                },
            ):
                return replace(held, amount=larger, shared=True, version=held.version + 1)
            run = await self._spenders.get(run.id)
        raise Conflict(f"Run {lease.run_id} changes too fast to reserve {amount}", "Try again")

    async def arm(self, lease: Lease, run: Run, held: Reservation, payment_id: str) -> Reservation:
        """Mark that an authorization of the slot is about to be sent.

        From then on only the chain closes the slot. Raises LeaseLost when another tick took over,
        and SlotClosed when the slot was closed: then nothing may be sent.
        """
        for _ in range(LONGEST_RACE):
            _check_lease(run, lease)
            if payment_id in held.armed:
                return held
            field = f"reservations.{held.slot}"
            if await self._documents.change(
                run.id,
                {"fence": lease.fence, f"{field}.version": held.version},
                {"$push": {f"{field}.armed": payment_id}, "$inc": {f"{field}.version": 1}},
            ):
                armed = (*held.armed, payment_id)
                return replace(held, armed=armed, version=held.version + 1)
            run = await self._spenders.get(run.id)
            current = run.reservation(held.slot)
            if current is None:
                raise SlotClosed(f"Slot {held.slot} of run {run.id} is closed already")
            held = current
        raise Conflict(f"Run {run.id} changes too fast to pay", "Try again")

    async def post(self, run_id: str, held: Reservation, settled: Usd) -> bool:
        """Close a slot whose money has moved: `settled` is spent, the rest is free again.

        held: the reservation that the decision was made on. False when the slot was closed or has
        changed since: then decide anew. Needs no lease.
        """
        return await self._documents.change(
            run_id,
            {f"reservations.{held.slot}.version": held.version},
            {
                "$inc": {
                    "budgetRemaining": (held.amount - settled).micros,
                    "spent": settled.micros,
                },
                "$unset": {f"reservations.{held.slot}": ""},
            },
        )

    async def post_by_hand(self, run: Run, held: Reservation | None, payment: Payment) -> bool:
        """Book, once, a payment that a person has explained. False as for `post`.

        held: the reservation of its slot, if it has one. run: as read together with that. A payment
        larger than what was held and is left raises the run's budget, because it is spent.
        """
        ours = held.amount if held else ZERO
        short = max(payment.amount.micros - ours.micros - run.budget_remaining.micros, 0)
        field = f"reservations.{payment.slot}"
        guard = {f"{field}.version": held.version} if held else {field: None}
        return await self._documents.change(
            run.id,
            {
                **guard,
                "budgetRemaining": run.budget_remaining.micros,
                "resolved": {"$ne": payment.id},
            },
            {
                "$inc": {
                    "budgetTotal": short,
                    "budgetRemaining": short + ours.micros - payment.amount.micros,
                    "spent": payment.amount.micros,
                },
                "$unset": {field: ""},
                "$max": {"nextSlot": payment.slot + 1},
                "$push": {"resolved": payment.id},
            },
        )

    async def release(self, run_id: str, held: Reservation) -> bool:
        """Close a slot that can never settle: all of it is free again. False as for `post`."""
        return await self.post(run_id, held, ZERO)

    async def refund(self, run_id: str, refund: str, amount: Usd) -> bool:
        """Put a refund that is on the chain back into the budget, once (Payment.refund)."""
        return await self._documents.change(
            run_id,
            {"refunds": {"$ne": refund}, "spent": {"$gte": amount.micros}},
            {
                "$inc": {"budgetRemaining": amount.micros, "spent": -amount.micros},
                "$push": {"refunds": refund},
            },
        )

    async def raise_total(
        self, run_id: str, key: str, amount: Usd, now: datetime, *, seen: Usd | None = None
    ) -> Run:
        """Let a run spend `amount` more, once per `key`; the run as it is then. Needs no lease.

        Only for words of the run's owner. seen: the total that the amount was reckoned from,
        where it was. Raises NotFound, BudgetExceeded for an amount that makes no sense, and
        Conflict when the run has ended, is being cancelled, or has another total by now.
        """
        if amount.micros <= 0:
            raise BudgetExceeded(f"A budget cannot be raised by {amount}", "Name more than $0")
        raised = await self._runs.documents.change(
            run_id,
            {
                "status": RunStatus.RUNNING.value,
                "cancelRequested": "",
                "raises": {"$ne": key},
                f"raises.{MOST_RAISES - 1}": {"$exists": False},
                "budgetTotal": {
                    "$lte": LARGEST - amount.micros,
                    **({"$eq": seen.micros} if seen is not None else {}),
                },
            },
            {
                "$inc": {"budgetTotal": amount.micros, "budgetRemaining": amount.micros},
                "$push": {"raises": key},
                "$set": {"updatedAt": now},
            },
        )
        run = await self._runs.get(run_id)
        before = {"_id": run_id, "raises": key}
        if raised or await self._runs.documents.find(before, fields={"_id": 1}):
            return run
        if run.status.ended:
            raise Conflict(f"Run {run_id} is {run.status}", "Start a new run")
        if run.cancel_requested:
            raise Conflict(f"Run {run_id} is being cancelled", "Start a new run")
        if seen is not None and run.budget_total != seen:
            raise Conflict(f"The budget of run {run_id} has just changed", "Look at it again")
        raise BudgetExceeded(f"The budget of run {run_id} cannot grow by {amount}")


def _check_lease(run: Run, lease: Lease) -> None:
    if run.fence != lease.fence:
        raise LeaseLost(f"Another tick took over run {run.id}")


def _check(run: Run, lease: Lease, amount: Usd) -> None:
    _check_lease(run, lease)
    if run.status.ended:
        raise Conflict(f"Run {run.id} is {run.status}", "Start a new run")
    if run.budget_remaining < amount:
        raise BudgetExceeded(
            f"{amount.exact()} is more than the {run.budget_remaining.exact()} left of the budget"
        )
