"""Places for open runs: never one too many, whoever starts at the same time."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import TooManyRuns
from domain.jobs import RunStatus
from domain.money import Usd
from domain.policy import OpenRuns
from ledger.ledger import Ledger
from ledger.run import Run
from tests.support.builders import NOON, at, open_ledger
from tests.support.stack import FreshDatabase

FIVE = Usd.parse(5)


async def start(ledger: Ledger, run_id: str, user: str, most: OpenRuns) -> Run:
    return await ledger.runs.create(run_id, user, "Train", FIVE, NOON, most_open=most)


async def end(ledger: Ledger, run_id: str) -> None:
    _, lease = await ledger.runs.acquire(run_id, at(NOON), 60)
    await ledger.runs.end(lease, RunStatus.COMPLETED, "", NOON)


async def test_as_many_runs_start_at_once_as_there_are_places(database: FreshDatabase) -> None:
    most = OpenRuns(in_all=5, a_user=3)

    async def started(ledger: Ledger, number: int) -> str:
        user = ("u", "u|0")[number % 2]
        try:
            return (await start(ledger, f"run_{number}", user, most)).user_id
        except TooManyRuns:
            return ""

    async with open_ledger(database) as ledger:
        users = await asyncio.gather(*(started(ledger, number) for number in range(16)))
        assert sum(map(bool, users)) == 5
        assert max(users.count("u"), users.count("u|0")) == 3
        assert len(await ledger.runs.recent(limit=0)) == 5


async def test_a_run_that_has_ended_gives_its_places_back(database: FreshDatabase) -> None:
    most = OpenRuns(in_all=2, a_user=1)
    async with open_ledger(database) as ledger:
        await start(ledger, "first", "ann", most)
        with pytest.raises(TooManyRuns, match="MAX_OPEN_RUNS_PER_USER"):
            await start(ledger, "second", "ann", most)
        await start(ledger, "third", "bob", most)
        with pytest.raises(TooManyRuns, match=r"raise MAX_OPEN_RUNS$"):
            await start(ledger, "fourth", "cat", most)
        await end(ledger, "first")
        assert (await start(ledger, "second", "ann", most)).status is RunStatus.RUNNING


async def test_a_start_that_is_repeated_gives_its_run_however_many_are_open(
    database: FreshDatabase,
) -> None:
    most = OpenRuns(in_all=1)
    async with open_ledger(database) as ledger:
        first = await start(ledger, "run_1", "ann", most)
        assert await start(ledger, "run_1", "ann", most) == first
        assert await start(ledger, "run_1", "ann", OpenRuns()) == first


async def test_a_lower_limit_counts_the_runs_that_a_higher_one_let_in(
    database: FreshDatabase,
) -> None:
    most = OpenRuns(in_all=9, a_user=9)
    async with open_ledger(database) as ledger:
        for number in range(4):
            run = await start(ledger, f"run_{number}", "ann", most)
            places = {"place": str(5 + number), "userPlace": f"ann|{5 + number}"}
            await ledger.runs.documents.change(run.id, {}, {"$set": places})
        for lower in (OpenRuns(in_all=4), OpenRuns(a_user=4)):
            with pytest.raises(TooManyRuns):
                await start(ledger, "one_more", "ann", lower)
        await start(ledger, "another's", "ann|1", OpenRuns(a_user=4))
        await start(ledger, "one_more", "ann", OpenRuns(a_user=5))
