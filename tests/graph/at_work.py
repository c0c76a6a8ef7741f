"""A run whose job is at work, and what happens at the moments of its next ticks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from graph.deps import Limits
from ledger.run import Run
from server.runner.tick import Ticker
from tests.chaos.effects import Life, Moment
from tests.chaos.record import Record
from tests.support.stack import FreshDatabase
from tests.support.world import World

POLL, LEASE, RELEASE = "http.job-status", "runs.acquire", "runs.leave"
POLLED, TAKEN = f"{POLL}:after", f"{LEASE}:after"


@dataclass(slots=True)
class Stage:
    """A run whose job is at work, and what happens at the next moments of its agent."""

    world: World
    run: Run
    acts: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    """By an effect's name, or its name and ":after": what happens before it, or after."""
    seen: list[str] = field(default_factory=list)
    """The effects since the job was launched."""

    async def tick(self, *, due: bool = False) -> str:
        return (await Ticker(self.world.process.services).tick(self.run.id, due=due)).message


@asynccontextmanager
async def at_work(
    database: FreshDatabase,
    limits: Limits | None = None,
    goal: str = "Fine-tune on an A100",
    epochs: int = 9,
) -> AsyncIterator[Stage]:
    stages: list[Stage] = []

    async def hook(moment: Moment) -> None:
        before = moment.when == "before"
        name = moment.name if before else f"{moment.name}:after"
        if stages and before:
            stages[0].seen.append(name)
        if stages and (act := stages[0].acts.get(name)):
            await act()

    life = Life(1, Record(), [hook])
    async with World.open(database, wrap=life.wraps(), epochs=epochs, limits=limits) as world:
        run = await world.start(goal, 20)
        assert await world.tick(run) == "Job started"
        stages.append(Stage(world, run))
        yield stages[0]
