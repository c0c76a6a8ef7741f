"""The planner with a real model of Fireworks: when FIREWORKS_API_KEY is set, and else not.

    FIREWORKS_API_KEY=… .venv/bin/python -m pytest tests/live -q -p no:cacheprovider

FIREWORKS_API_BASE and FIREWORKS_MODEL count too. Each test runs against the stand-in as well, so
that it is known to run. It costs some ten thousand tokens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from langchain_core.messages import AIMessageChunk
from pydantic import SecretStr

from graph.planner.answers import DECISIONS
from graph.planner.fireworks import open_fireworks
from graph.planner.planners import Decided, ModelPlanner
from graph.planner.prompts import opening
from server.config.settings import Settings
from server.wiring import open_planner
from tests.conftest import LIVE
from tests.support.fireworks_stand_in import (
    Answer,
    Json,
    calls,
    fireworks,
    ids_of,
    looked_up,
    offers_in,
    refuses,
)
from tests.support.planning import last_reasoning, situation
from tests.support.stack import FreshDatabase
from tests.support.world import World

pytestmark = pytest.mark.enable_socket
KEY = "fw_stand_in"


@dataclass(frozen=True, slots=True)
class Endpoint:
    settings: Settings

    def planner(self, key: str | None = None) -> ModelPlanner:
        changes = {} if key is None else {"fireworks_api_key": SecretStr(key)}
        planner = open_planner(self.settings.completed(**changes))
        assert isinstance(planner, ModelPlanner)
        return planner


def sensible(request: Json) -> Answer:
    """What a model does that understands its task: look something up, and rent the cheapest."""
    if not looked_up(request) and any(
        tool["function"]["name"] == "budget" for tool in request["tools"]
    ):
        return calls(("budget", {}))
    cheapest = min(offers_in(request), key=lambda row: row["wholeJobUsd"])
    return calls(("rent", ids_of(cheapest["vendorId"], request)))


@pytest.fixture(params=["fireworks", "stand-in"])
async def endpoint(request: pytest.FixtureRequest) -> AsyncIterator[Endpoint]:
    if request.param == "fireworks":
        if "FIREWORKS_API_KEY" not in LIVE:
            pytest.skip("FIREWORKS_API_KEY is not set: no real model to ask")
        yield Endpoint(Settings.load({**LIVE, "PLANNER_MODE": "llm"}))
        return
    with fireworks(sensible) as server:
        yield Endpoint(
            Settings(
                planner_mode="llm",
                fireworks_api_key=SecretStr(KEY),
                fireworks_api_base=server.base_url,
            )
        )


async def test_a_run_is_planned_by_the_model(endpoint: Endpoint, database: FreshDatabase) -> None:
    planner = endpoint.planner()
    try:
        async with World.open(database, planner=planner) as world:
            run = await world.start("Fine-tune a 7B model on an A100 for an hour")
            assert await world.tick(run) == "Job started"
            reasoning = await last_reasoning(world, run)
            assert reasoning.data["fallback"] is False, reasoning.data["fallbackReason"]
            assert reasoning.data["model"] == endpoint.settings.fireworks_model
            assert reasoning.data["reason"]
            used = (await world.run(run)).model
            assert used.calls >= 1
            assert used.tokens_in > used.tokens_out > 0
    finally:
        await planner.aclose()


async def test_a_stream_brings_the_same_call_and_its_usage(endpoint: Endpoint) -> None:
    settings = endpoint.settings
    assert settings.fireworks_api_key is not None
    model = open_fireworks(
        settings.fireworks_model, settings.fireworks_api_key, settings.fireworks_api_base, 60.0
    )
    try:
        bound = model.bind_tools(list(DECISIONS), tool_choice="any")
        whole: AIMessageChunk | None = None
        at = situation()
        async for chunk in bound.astream(opening(at.goal, at.offers, at.left)):
            assert isinstance(chunk, AIMessageChunk)
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        assert [call["name"] for call in whole.tool_calls] == ["rent"]
        assert whole.usage_metadata is not None
        assert whole.usage_metadata["input_tokens"] > 0
    finally:
        await model.aclose()


async def test_a_wrong_key_is_refused_and_the_ranking_decides(endpoint: Endpoint) -> None:
    if endpoint.settings.fireworks_api_key == SecretStr(KEY):
        with fireworks(refuses(401, "unauthorized")) as server:
            settings = endpoint.settings.completed(fireworks_api_base=server.base_url)
            await _refused(Endpoint(settings))
    else:
        await _refused(endpoint)


async def _refused(endpoint: Endpoint) -> None:
    planner = endpoint.planner("fw_wrong")
    try:
        decided = await planner.next(situation(), [], [])
    finally:
        await planner.aclose()
    assert isinstance(decided, Decided)
    assert decided.fallback.startswith("the model failed")
    assert "fw_wrong" not in repr(decided)
