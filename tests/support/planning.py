"""Planners over the real ChatFireworks and a stand-in for Fireworks, and worlds that have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic import SecretStr

from domain.journal import Note
from domain.money import Usd
from graph.planner.fireworks import open_fireworks
from graph.planner.planners import Decided, ModelPlanner, Situation
from ledger.run import Run
from tests.support.builders import an_offer
from tests.support.fireworks_stand_in import Answer, Fireworks, Script, calls, fireworks
from tests.support.stack import FreshDatabase
from tests.support.world import World

KEY: Final = "fw_a_key_that_must_not_leak"
MODEL: Final = "accounts/fireworks/models/stand-in"
FAST, RELIABLE = an_offer("gpu_vendor_1", "1.4"), an_offer("gpu_vendor_2", "1.8")


@asynccontextmanager
async def planner_at(
    base_url: str, timeout_s: float = 20.0, **bounds: Any
) -> AsyncIterator[ModelPlanner]:
    """The planner as wiring makes it, with the model at `base_url`."""
    model = open_fireworks(MODEL, SecretStr(KEY), base_url, timeout_s)
    planner = ModelPlanner(model, MODEL, timeout_s, **bounds)
    try:
        yield planner
    finally:
        await planner.aclose()


@asynccontextmanager
async def model_world(
    database: FreshDatabase,
    *answers: Script,
    timeout_s: float = 20.0,
    bounds: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[World, Fireworks]]:
    """A world whose planner asks a stand-in with these answers."""
    with fireworks(*answers) as server:
        async with (
            planner_at(server.base_url, timeout_s, **(bounds or {})) as planner,
            World.open(database, planner=planner, **options) as world,
        ):
            yield world, server


def situation(**changes: Any) -> Situation:
    """Two offers, $1.40 and $1.80, and $5 left."""
    sound: dict[str, Any] = {
        "goal": "Train on an A100",
        "offers": (FAST, RELIABLE),
        "left": Usd.parse(5),
        "patience": True,
    }
    return Situation(**(sound | changes))


async def decide(
    *answers: Script, timeout_s: float = 20.0, bounds: dict[str, Any] | None = None, **changes: Any
) -> Decided:
    """The decision of a planner whose model gives these answers, without any look-ups."""
    with fireworks(*answers) as server:
        async with planner_at(server.base_url, timeout_s, **(bounds or {})) as planner:
            step = await planner.next(situation(**changes), [], [])
    assert isinstance(step, Decided)
    return step


def rent(vendor: str = "gpu_vendor_2", quote: str = "", **more: Any) -> Answer:
    """The model rents the offer that `situation` has of this vendor."""
    quote = quote or f"quote_of_{vendor}"
    return calls(("rent", {"vendor_id": vendor, "quote_id": quote, "reason": "because", **more}))


async def last_reasoning(world: World, run: Run) -> Note:
    return (await world.journal(run, "agent_reasoning"))[-1].note
