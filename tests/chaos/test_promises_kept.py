"""The short campaign: a sample of every kind of case, drawn by a fixed seed.

`make chaos` plays ten thousand of them. A failing case prints the line that replays it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.campaigns import CAMPAIGNS, Draw
from tests.chaos.case import Case
from tests.chaos.planted import BUGS, CAUGHT_BY, planted
from tests.chaos.stage import Outcome, Stage
from tests.support.stack import FreshDatabase

SEED = 20_260_101
CASES_EACH = 2


@pytest.fixture
async def stage(database: FreshDatabase, tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage.open(database, tmp_path) as opened:
        yield opened


def _assert_kept(outcome: Outcome) -> None:
    told = "\n".join([f"python -m bench.chaos --replay '{outcome.case}'", *outcome.broken])
    assert not outcome.broken, told


@pytest.mark.parametrize("campaign", CAMPAIGNS)
async def test_the_promises_hold_in_a_sample_of_each_campaign(stage: Stage, campaign: str) -> None:
    stream = CAMPAIGNS[campaign](Draw(SEED))
    case = next(stream)
    for _ in range(CASES_EACH):
        outcome = await stage.play(case)
        _assert_kept(outcome)
        case = stream.send(outcome)


@pytest.mark.parametrize("bug", BUGS)
async def test_each_planted_bug_is_caught(stage: Stage, bug: str) -> None:
    case = Case.parse(CAUGHT_BY[bug])
    with planted(bug):
        caught = await stage.play(case)
    promised = [sentence for sentence in caught.broken if sentence.startswith("P")]
    assert promised, f"{bug} goes unnoticed in '{case}': {caught.messages}"
    _assert_kept(await stage.play(case))


@pytest.mark.parametrize(
    "text",
    [
        # The vendor's refund was noted after the job was written down as ended.
        "refund crash@1/jobs.change#2:after",
        # A refund was booked in the payment first, and reconcile looked at open claims only.
        "refund vendor.never_boot@gpu_vendor_1/submit-job*1 do.cancel@2 "
        "net.rpc_error@1/http.eth_getTransactionReceipt#2*3 do.advance-5@3 "
        "crash@1/payments.refunded#1:after",
        # A reconcile that lost its lease released a slot just shared with a rival vendor.
        "recover vendor.silent_before_settling@*/submit-job*0 crash@1/runs.share#1:before "
        "do.advance-320@4 do.reconcile@4 pause@2/runs.close#1:before+1 do.settle-held@5",
        # A reconcile that stood still took a slot that was opened meanwhile for a closed one.
        "recover vendor.silent_before_settling@*/submit-job*0 crash@1/http.submit-job#5:before "
        "do.advance-320@4 do.reconcile@4 pause@2/runs.get#2:after+2 do.settle-held@5",
        # A tick that lost its lease signed for a slot that a cancel had released.
        "simple pause@1/payments.insert#1:before+1 do.cancel@0",
        # The answer to cancel-job was lost, and with it the refund that it told of.
        "refund vendor.never_boot@gpu_vendor_1/submit-job*1 do.cancel@2 "
        "net.lost_answer@1/http.cancel-job#1*1",
        # The same for a job that was given up.
        "refund vendor.never_boot@gpu_vendor_1/submit-job*1 do.advance-2400@3 "
        "net.lost_answer@1/http.cancel-job#1*1",
        # All that the vendor said of its failed job was lost, and with it that it had paid back.
        "refund net.lost_answer@1/http.job-status#1*8 net.lost_answer@1/http.cancel-job#1*1",
        # A job that outlived its run was paid back, and reconcile looked at ended jobs only.
        "recover do.cancel@2 vendor.silent_before_settling@*/submit-job*0 do.settle-held@3 "
        "crash@1/runs.get#11:after",
    ],
)
async def test_what_was_once_broken_holds(stage: Stage, text: str) -> None:
    _assert_kept(await stage.play(Case.parse(text)))


async def test_a_case_is_replayed_from_its_line(stage: Stage) -> None:
    line = "recover crash@1/sign#1:after crash@2/http.submit-job#1:before"
    assert str(Case.parse(line)) == line
    first, second = [await stage.play(Case.parse(line)) for _ in range(2)]
    assert (first.messages, first.paid) == (second.messages, second.paid)
    assert sum("crashed" in message for message in first.messages) == 2
