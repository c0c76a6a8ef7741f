"""What the promises come to in single situations, told one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import takewhile
from pathlib import Path

import pytest

from domain.errors import LeaseHeld, LeaseLost, RenterError
from domain.money import ZERO, Usd
from ledger.run import Reservation
from tests.chaos.case import Case
from tests.chaos.effects import When
from tests.chaos.scenarios import V1, V2
from tests.chaos.stage import Outcome, Stage
from tests.support.builders import NOON, check_books, leased, open_ledger
from tests.support.stack import FreshDatabase
from tests.support.world import World

SLICE = 1_400_000
"""Micro-dollars for the first hour at vendor 1."""


@pytest.fixture
async def stage(database: FreshDatabase, tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage.open(database, tmp_path) as opened:
        yield opened


async def _play(stage: Stage, text: str) -> Outcome:
    outcome = await stage.play(Case.parse(text))
    assert not outcome.broken, outcome.broken
    return outcome


async def test_of_32_reservations_of_the_last_dollar_one_is_granted(
    database: FreshDatabase,
) -> None:
    async with open_ledger(database) as ledger:
        run, lease = await leased(ledger, dollars=1)

        async def reserve(slot: int) -> Reservation:
            return await ledger.budget.reserve(lease, run, slot, Usd.parse(1))

        answers = await asyncio.gather(*map(reserve, range(32)), return_exceptions=True)
        assert sum(isinstance(answer, Reservation) for answer in answers) == 1
        assert all(isinstance(a, Reservation | RenterError) for a in answers), answers
        after = await ledger.runs.get(run.id)
        check_books(after)
        assert after.budget_remaining == ZERO


async def test_32_ticks_at_once_never_spend_more_than_the_budget(
    database: FreshDatabase, tmp_path: Path
) -> None:
    async with World.open(database, failing="gpu_vendor_1", epochs=2, artifacts=tmp_path) as world:
        budget = Usd.parse("1.8")
        run = await world.ledger.runs.create(
            "run_1", "user_1", "Fine-tune on an A100", budget, NOON
        )
        async with world.another_process() as second, world.another_process() as third:
            for _ in range(5):
                processes = (world.process, second, third)
                ticks = [processes[n % 3].tick(run) for n in range(32)]
                answers = await asyncio.gather(*ticks, return_exceptions=True)
                odd = [a for a in answers if isinstance(a, BaseException)]
                assert all(isinstance(a, LeaseHeld | LeaseLost) for a in odd), odd
                check_books(await world.run(run))
                assert sum(t.value for t in world.transfers()) <= budget.micros
                world.clock.advance(5)


async def test_a_silent_vendor_is_left_within_three_ticks(stage: Stage) -> None:
    outcome = await _play(
        stage, "simple vendor.silent_before_settling@gpu_vendor_1/submit-job*0 do.settle-held@4"
    )
    assert outcome.messages[2] == "Job started", outcome.messages
    assert outcome.paid == [(V2, 1_800_000)]


@pytest.mark.parametrize("tick", [2, 3])
async def test_the_silent_vendor_that_settles_first_is_the_one_that_is_paid(
    stage: Stage, tick: int
) -> None:
    outcome = await _play(
        stage,
        f"simple vendor.silent_before_settling@gpu_vendor_1/submit-job*{tick - 1} "
        f"do.settle-held@{tick}",
    )
    assert outcome.paid == [(V1, SLICE)]


async def test_a_vendor_that_fails_after_its_first_slice_costs_that_slice(stage: Stage) -> None:
    outcome = await _play(
        stage,
        "slices vendor.never_boot@gpu_vendor_1/submit-job*1 do.advance-2400@3",
    )
    assert [micros for payee, micros in outcome.paid if payee == V1][:1] == [SLICE]
    assert outcome.paid.count((V1, SLICE)) == 1
    assert outcome.paid[1][0] == V2


async def test_a_refund_counts_when_its_transfer_is_on_the_chain(stage: Stage) -> None:
    stalled = "vendor.never_boot@gpu_vendor_1/submit-job*1 do.advance-2400@3"
    honest = await _play(stage, f"simple {stalled}")
    run = (await stage.ledger.runs.recent(limit=0))[0]
    assert honest.paid == [(V1, SLICE), (V2, 1_800_000)]
    assert run.spent == Usd(1_800_000)

    lying = await _play(stage, f"simple {stalled} vendor.claimed_refund@gpu_vendor_1/cancel-job*0")
    run = (await stage.ledger.runs.recent(limit=0))[0]
    assert lying.paid == honest.paid
    assert run.spent == Usd(3_200_000)


async def test_settling_costs_one_transaction_of_the_vendors_and_none_of_ours(
    database: FreshDatabase, tmp_path: Path
) -> None:
    async with World.open(database, epochs=1, artifacts=tmp_path) as world:
        before = _transactions(world)
        await world.ticks(await world.start())
        assert _transactions(world) - before == len(world.transfers()) == 1


async def test_a_payment_adds_at_most_fourteen_store_commands_to_a_tick(stage: Stage) -> None:
    paid = _commands_of_the_first_tick(await _play(stage, "simple"))
    unpaid = _commands_of_the_first_tick(await _play(stage, "unpaid"))
    # Four of the payment itself, five for each of the sums: the vendor's, and the wallet's.
    assert len(paid) - len(unpaid) <= 14
    assert paid.count("tallies.insert") == 2, "only where a sum is the first of its kind"
    steps = (
        "runs.reserve",
        "runs.close",
        "payments.insert",
        "payments.authorized",
        "payments.settled",
    )
    assert [name for name in paid if name in steps] == [
        "runs.reserve",
        "payments.insert",
        "payments.authorized",
        "payments.settled",
        "runs.close",
    ]


def _transactions(world: World) -> int:
    blocks = (world.chain.block(number) for number in range(world.chain.head().number + 1))
    return sum(len(block.transactions) for block in blocks if block)


def _commands_of_the_first_tick(outcome: Outcome) -> list[str]:
    tick = takewhile(lambda m: m.name != "runs.leave", outcome.moments[1])
    others = ("http.", "checkpoint", "sign")
    return [m.name for m in tick if m.when is When.BEFORE and not m.name.startswith(others)]
