"""Approvals as stored: who waits for an answer, who may give it, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domain.approvals import Approval, ApprovalState
from domain.errors import Conflict, NotFound
from domain.jobs import RunStatus
from domain.money import Usd
from ledger.ledger import Ledger
from tests.support.builders import NOON, PAYEE, leased, open_ledger
from tests.support.stack import FreshDatabase

HOUR = timedelta(hours=1)


@pytest.fixture
async def ledger(database: FreshDatabase) -> AsyncIterator[Ledger]:
    async with open_ledger(database) as opened:
        yield opened


async def ask(ledger: Ledger, id_: str, run_id: str = "run_1", **changes: Any) -> Approval:
    terms: dict[str, Any] = {
        "slot": 0,
        "vendor_id": "gpu_vendor_1",
        "pay_to": PAYEE,
        "amount": Usd.parse("1.4"),
        "quote_id": "quote_1",
        "state": ApprovalState.PENDING,
        "created_at": NOON,
        "expires_at": NOON + HOUR,
    }
    return await ledger.approvals.ask(Approval(id_, run_id, **terms | changes))


async def states(ledger: Ledger) -> dict[str, ApprovalState]:
    return {a.id: a.state for a in await ledger.approvals.of_run("run_1")}


async def test_each_runs_questions_that_wait_are_told_the_oldest_first(ledger: Ledger) -> None:
    await ask(ledger, "b", created_at=NOON + timedelta(minutes=1))
    await ask(ledger, "a")
    await ask(ledger, "answered", state=ApprovalState.APPROVED)
    await ask(ledger, "late", expires_at=NOON)
    await ask(ledger, "of another", "run_2")
    await ask(ledger, "of a third", "run_3")
    waiting = await ledger.approvals.pending_of(["run_1", "run_2", "run_9"], NOON)
    ids = {run_id: [approval.id for approval in found] for run_id, found in waiting.items()}
    assert ids == {"run_1": ["a", "b"], "run_2": ["of another"]}
    assert await ledger.approvals.pending_of([], NOON) == {}


async def test_an_answer_stands_and_another_is_refused(ledger: Ledger) -> None:
    await leased(ledger)
    await ask(ledger, "a")
    for _ in range(2):
        answered = await ledger.approvals.decide("run_1", "a", True, NOON)
        assert answered.state is ApprovalState.APPROVED
    with pytest.raises(Conflict, match="is approved, so it cannot be rejected"):
        await ledger.approvals.decide("run_1", "a", False, NOON)
    await ask(ledger, "b")
    with pytest.raises(Conflict, match="is expired"):
        await ledger.approvals.decide("run_1", "b", True, NOON + HOUR)
    for run_id, approval_id in (("run_2", "a"), ("run_1", "c")):
        with pytest.raises(NotFound):
            await ledger.approvals.decide(run_id, approval_id, True, NOON)
    assert await states(ledger) == {"a": ApprovalState.APPROVED, "b": ApprovalState.PENDING}


async def test_a_question_of_a_run_that_has_ended_is_not_answered(ledger: Ledger) -> None:
    _, lease = await leased(ledger)
    await ask(ledger, "a")
    await ledger.runs.end(lease, RunStatus.CANCELLED, "", NOON)
    with pytest.raises(Conflict, match="has ended already"):
        await ledger.approvals.decide("run_1", "a", True, NOON)
    assert await states(ledger) == {"a": ApprovalState.PENDING}


async def test_open_questions_are_withdrawn_but_for_the_one_that_is_asked_now(
    ledger: Ledger,
) -> None:
    for id_ in ("a", "b", "c"):
        await ask(ledger, id_)
    await ask(ledger, "said", state=ApprovalState.REJECTED)
    await ledger.approvals.withdraw("run_1", but="b")
    assert await states(ledger) == {
        "a": ApprovalState.EXPIRED,
        "b": ApprovalState.PENDING,
        "c": ApprovalState.EXPIRED,
        "said": ApprovalState.REJECTED,
    }


async def test_a_yes_that_is_given_again_lasts_longer_and_a_no_stays_one(ledger: Ledger) -> None:
    yes = await ask(ledger, "yes", state=ApprovalState.APPROVED)
    no = await ask(ledger, "no", state=ApprovalState.REJECTED)
    for given in (yes, no):
        await ledger.approvals.grant(replace(given, expires_at=NOON + 2 * HOUR))
    found = {a.id: a for a in await ledger.approvals.of_run("run_1")}
    assert (found["yes"].state, found["yes"].expires_at) == (yes.state, NOON + 2 * HOUR)
    assert found["no"] == no
