"""A worker of `make chaos`: a process that plays cases on a MongoDB of its own."""

from __future__ import annotations

import asyncio
import io
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as drawn_by
from hypothesis.stateful import run_state_machine_as_test
from pymongo import AsyncMongoClient

from server.local.mongodb import EmbeddedMongo
from tests.chaos.campaigns import CAMPAIGNS, Draw, Stream
from tests.chaos.case import Case
from tests.chaos.machine import Histories
from tests.chaos.stage import Outcome, Stage
from tests.support.stack import Document, FreshDatabase, quick_folder

CASE_S: Final = 120
"""Longer than any case takes; one that takes longer hangs, and that is a failure too."""
MACHINE: Final = "machine"
"""Hypothesis' random histories, in batches."""
BATCH: Final = 10
"""Histories in a batch of the machine's."""
MACHINE_SHARE: Final = 1 / 2
"""Of the machine's histories, which are short, to the other cases."""
TURNS: Final = {"lies": 0.5, "history": 0.5, "stale2": 0.5}
"""Cases a round of the campaigns whose cases take long; the others have one."""


@dataclass(frozen=True, slots=True)
class Played:
    """One played case, as a worker reports it."""

    campaign: str
    case: str
    broken: list[str]
    payments: int
    crashes: int


def work(draw: Draw, only: list[str], results: Any, stop: Any) -> None:
    """What a worker process runs: put each case of `draw` into `results`, until `stop` is set."""
    logging.disable(logging.CRITICAL)
    uvloop.run(_play_streams(draw, only, results, stop))


async def _play_streams(draw: Draw, only: list[str], results: Any, stop: Any) -> None:
    """Play the campaigns in turn, one case each, until told to stop."""
    async with own_stage() as stage:
        streams = {name: CAMPAIGNS[name](draw) for name in only if name in CAMPAIGNS}
        batch, rounds, counts = 0, 0, Counter[str]()
        upcoming = {name: next(stream) for name, stream in streams.items()}
        while (upcoming or MACHINE in only) and not stop.is_set():
            due = not upcoming or batch * BATCH <= counts.total() * MACHINE_SHARE
            if MACHINE in only and due:
                batch += 1
                uri = stage.database.uri
                for played in await asyncio.to_thread(
                    histories, uri, f"{draw.seed * 1000 + draw.part}{batch:04}"
                ):
                    results.put(played)
            rounds += 1
            for name in list(upcoming):
                if counts[name] >= rounds * TURNS.get(name, 1):
                    continue
                outcome = await _played(stage, upcoming[name])
                counts[name] += 1
                crashes = len(outcome.moments) - 2
                results.put(
                    Played(name, str(outcome.case), outcome.broken, len(outcome.paid), crashes)
                )
                _advance(name, streams, upcoming, outcome, draw)
                if stop.is_set():
                    return


def _advance(
    name: str, streams: dict[str, Stream], upcoming: dict[str, Case], outcome: Outcome, draw: Draw
) -> None:
    """The campaign's next case; a hung one's successor cannot be drawn from it, so it restarts."""
    try:
        if outcome.moments:
            upcoming[name] = streams[name].send(outcome)
        else:
            again = Draw(draw.seed + 1, draw.part, draw.parts)
            streams[name] = CAMPAIGNS[name](again)
            upcoming[name] = next(streams[name])
    except StopIteration:
        del streams[name], upcoming[name]


def histories(uri: str, number: str) -> list[Played]:
    """A batch of hypothesis' histories; a broken one is told unshrunk, and replayed by its seed."""
    here = type("Here", (Histories,), {"uri": uri})
    quietly = settings(
        max_examples=BATCH,
        stateful_step_count=20,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    broken: list[str] = []
    told = io.StringIO()
    try:
        with redirect_stdout(told):
            run_state_machine_as_test(drawn_by(int(number))(here), settings=quietly)
    except Exception as error:  # noqa: BLE001 -- hypothesis raises what the history raised
        broken = [f"{type(error).__name__}: {error}"[:2000], told.getvalue()[-2000:]]
    line = f"machine batch {number}"
    return [Played(MACHINE, f"{line}/{n}", broken if n == 0 else [], 0, 0) for n in range(BATCH)]


async def _played(stage: Stage, case: Case) -> Outcome:
    try:
        async with asyncio.timeout(CASE_S):
            return await stage.play(case)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is this case's failure
        return Outcome(
            case, [f"the harness failed: {type(error).__name__}: {error}"], {}, [], [], False
        )


@asynccontextmanager
async def own_stage() -> AsyncIterator[Stage]:
    """A stage on an embedded MongoDB of its own, in memory where the system has such a folder."""
    with quick_folder("chaos") as folder:
        async with EmbeddedMongo(folder, grace_s=0, password=False) as mongo:
            client: AsyncMongoClient[Document] = AsyncMongoClient(mongo.uri, tz_aware=True)
            database = FreshDatabase(mongo.uri, "chaos", client)
            async with client, Stage.open(database, folder / "artifacts") as stage:
                yield stage
