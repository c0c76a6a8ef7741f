"""Approvals as stored: asked once, decided once, used once."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pymongo import ASCENDING, IndexModel

from domain.approvals import Approval, ApprovalState
from domain.errors import Conflict, NotFound
from domain.money import Usd
from ledger.runs import Runs
from ledger.store import Document, Store

COLLECTION: Final = "approvals"


class Approvals:
    def __init__(self, store: Store, runs: Runs) -> None:
        self.documents = store.documents(COLLECTION)
        self._runs = runs

    async def ensure_indexes(self) -> None:
        await self.documents.ensure_indexes([IndexModel([("runId", ASCENDING)])])

    async def ask(self, approval: Approval) -> Approval:
        """Store a question; where the same was asked before, give that one as it stands."""
        if await self.documents.insert(_document(approval)):
            return approval
        found = await self.documents.get(approval.id)
        return _approval(found) if found else approval

    async def of_run(self, run_id: str) -> list[Approval]:
        found = await self.documents.find({"runId": run_id}, sort=[("createdAt", 1)])
        return [_approval(document) for document in found]

    async def decide(self, run_id: str, approval_id: str, approve: bool, now: datetime) -> Approval:
        """Answer a pending question, and make its run due. The same answer again changes nothing.

        Raises NotFound when the run has no such question, and Conflict when it was answered
        otherwise, has expired, or was used, or its run has ended.
        """
        wanted = ApprovalState.APPROVED if approve else ApprovalState.REJECTED
        run = await self._runs.find(run_id)
        over = run is not None and run.status.ended
        if not over:
            await self.documents.change(
                approval_id,
                {"runId": run_id, "state": ApprovalState.PENDING.value, "expiresAt": {"$gt": now}},
                {"$set": {"state": wanted.value, "decidedAt": now}},
            )
        found = await self.documents.get(approval_id)
        if found is None or found["runId"] != run_id:
            raise NotFound(
                f"Run {run_id[:64]} has no approval {approval_id[:64]!r}",
                "Look it up in the run's status",
            )
        current = _approval(found)
        if current.state is wanted:
            await self._runs.schedule.make_due(run_id, now)
            return current
        state = current.state
        if over and state is ApprovalState.PENDING:
            raise Conflict(f"Run {run_id} has ended already", "Nothing of it waits for an answer")
        if state is ApprovalState.PENDING:
            state = ApprovalState.EXPIRED
        raise Conflict(
            f"Approval {approval_id} is {state}, so it cannot be {wanted}",
            "Look at the run's status for what it asks now",
        )

    async def reopen(self, approval: Approval, expires_at: datetime) -> bool:
        """Ask an expired question again; False when it is not expired any more."""
        return await self.documents.change(
            approval.id,
            {"state": ApprovalState.EXPIRED.value},
            {"$set": {"state": ApprovalState.PENDING.value, "expiresAt": expires_at}},
        )

    async def move(self, approval: Approval, before: ApprovalState, after: ApprovalState) -> bool:
        """From `before` to `after`; False when it was not in `before`."""
        return await self.documents.change(
            approval.id, {"state": before.value}, {"$set": {"state": after.value}}
        )


def _document(approval: Approval) -> Document:
    return {
        "_id": approval.id,
        "runId": approval.run_id,
        "slot": approval.slot,
        "vendorId": approval.vendor_id,
        "payTo": approval.pay_to,
        "amount": approval.amount.micros,
        "quoteId": approval.quote_id,
        "state": approval.state.value,
        "createdAt": approval.created_at,
        "expiresAt": approval.expires_at,
    }


def _approval(document: Document) -> Approval:
    return Approval(
        id=document["_id"],
        run_id=document["runId"],
        slot=document["slot"],
        vendor_id=document["vendorId"],
        pay_to=document["payTo"],
        amount=Usd(document["amount"]),
        quote_id=document["quoteId"],
        state=ApprovalState(document["state"]),
        created_at=document["createdAt"],
        expires_at=document["expiresAt"],
    )
