"""Approvals as stored: asked once, decided once, and counted against, slot by slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    async def pending_of(self, run_ids: Sequence[str], now: datetime) -> dict[str, list[Approval]]:
        """Run id → its questions that wait for an answer at `now`, of these runs."""
        found: list[Document] = []
        if run_ids:
            query = {"runId": {"$in": list(run_ids)}, "state": ApprovalState.PENDING.value}
            found = await self.documents.find(query, sort=[("createdAt", 1)])
        waiting: dict[str, list[Approval]] = {}
        for approval in map(_approval, found):
            if now < approval.expires_at:
                waiting.setdefault(approval.run_id, []).append(approval)
        return waiting

    async def grant(self, approval: Approval) -> None:
        """Store a yes that a person gave with the order itself; giving it again extends it."""
        if not await self.documents.insert(_document(approval)):
            await self.documents.change(
                approval.id,
                {"state": ApprovalState.APPROVED.value},
                {"$set": {"expiresAt": approval.expires_at}},
            )

    async def cover(self, approval: Approval, covered: Mapping[int, Usd]) -> bool:
        """Count a job's slots against the approval, which is in use from then on.

        approval: as last read. covered: slot → what it costs now; slots left out cost nothing any
        more. Repeating it writes nothing. False, with nothing counted, when the approval has
        changed since it was read.
        """
        if approval.state is ApprovalState.USED and approval.covered == covered:
            return True
        version = approval.version or {"$exists": False}
        amounts = {str(slot): amount.micros for slot, amount in covered.items()}
        return await self.documents.change(
            approval.id,
            {"state": approval.state.value, "version": version},
            {
                "$set": {"state": ApprovalState.USED.value, "covered": amounts},
                "$inc": {"version": 1},
            },
        )

    async def withdraw(self, run_id: str, but: str = "") -> None:
        """Close the run's questions that nobody answered, but the one with that id."""
        for approval in await self.of_run(run_id):
            if approval.state is ApprovalState.PENDING and approval.id != but:
                await self.move(approval, ApprovalState.PENDING, ApprovalState.EXPIRED)

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
        """Ask an expired question again; False when it is no longer expired."""
        return await self.documents.change(
            approval.id,
            {"state": ApprovalState.EXPIRED.value},
            {"$set": {"state": ApprovalState.PENDING.value, "expiresAt": expires_at}},
        )

    async def move(self, approval: Approval, before: ApprovalState, after: ApprovalState) -> bool:
        """Change the state from `before` to `after`; False when it was not `before`."""
        return await self.documents.change(
            approval.id, {"state": before.value}, {"$set": {"state": after.value}}
        )


def _document(approval: Approval) -> Document:
    covered = {str(slot): amount.micros for slot, amount in approval.covered.items()}
    return approval.document() | {"covered": covered}


def _approval(document: Document) -> Approval:
    """An older version's asked about one payment: its amount is the price."""
    return Approval.of({"price": document["amount"], **document})
