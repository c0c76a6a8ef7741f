"""POST /api/chat: as server-sent events, and as JSON on request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from domain.goals import ASK_FOR_BUDGET
from server.api.chat import EVENTS
from server.app import create_app
from tests.server.conftest import Api, opening, serving
from tests.support.stack import FreshDatabase
from tests.support.world import World

JSON = {"Accept": "application/json"}
GOAL = "Fine-tune a 7B model on an A100 for 30 minutes, $5"


@pytest.fixture
async def talk(database: FreshDatabase) -> AsyncIterator[Api]:
    async with (
        World.open(database) as world,
        serving(create_app(opening(world.process.services))) as served,
    ):
        yield served


async def say(api: Api, message: str, user: str = "u1", **more: Any) -> httpx.Response:
    body = {"userId": user, "message": message, **more}
    headers = more.pop("headers", None) or {"Accept": EVENTS}
    body.pop("headers", None)
    return await api.http.post("/api/chat", json=body, headers=headers)


def events(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks
    ]


async def test_words_and_actions_are_streamed_and_end_with_end(talk: Api) -> None:
    answer = await say(talk, GOAL)
    kinds = [kind for kind, _ in events(answer)]
    assert (answer.status_code, kinds) == (200, ["run", "words", "action", "end"])
    run_id = events(answer)[0][1]["data"]["runId"]
    assert (await talk.status(run_id))["run"]["budgetTotal"] == 5
    [first, *_] = events(await say(talk, "go on", runId=run_id))
    assert first[1]["data"] == {"runId": run_id}


@pytest.mark.parametrize(
    ("accept", "as_json"),
    [
        ("application/json", True),
        ("text/event-stream", False),
        ("*/*", True),
        ("application/json, */*;q=0.1", True),
        ("application/json, text/event-stream", False),
    ],
)
async def test_events_are_given_where_they_are_asked_for_by_name(
    talk: Api, accept: str, as_json: bool
) -> None:
    answer = await say(talk, "Train on an A100", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/json") is as_json
    if as_json:
        assert answer.json() == {
            "runId": None,
            "text": ASK_FOR_BUDGET,
            "said": [{"kind": "question", "text": ASK_FOR_BUDGET, "data": {}}],
        }


async def test_a_message_id_makes_a_raise_safe_to_repeat(talk: Api) -> None:
    run_id = (await say(talk, GOAL, headers=JSON)).json()["runId"]
    for message_id in ("m1", "m1", "m2"):
        await say(talk, "you may spend 2 more", runId=run_id, messageId=message_id)
    assert (await talk.status(run_id))["run"]["budgetTotal"] == 9


async def test_a_problem_on_the_way_is_the_last_event(talk: Api) -> None:
    run_id = (await say(talk, GOAL, headers=JSON)).json()["runId"]
    await say(talk, "stop", runId=run_id)
    *_, last, end = events(await say(talk, "you may spend 2 more", runId=run_id))
    assert last[0] == "error"
    assert last[1]["text"] == f"Run {run_id} is cancelled. Start a new run"
    assert end == ("end", {})


async def test_another_users_run_is_404_like_an_unknown_one(talk: Api) -> None:
    run_id = (await say(talk, GOAL, headers=JSON)).json()["runId"]
    theirs = await say(talk, "stop", user="u2", runId=run_id)
    nobodys = await say(talk, "stop", user="u2", runId="nobodys")
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert theirs.json()["error"].replace(run_id, "nobodys") == nobodys.json()["error"]
    assert (await talk.status(run_id))["run"]["status"] == "running"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"userId": "u1"}, 422, "message"),
        ({"message": "hi"}, 422, "userId"),
        ({"userId": "u1", "message": ""}, 400, "message: it is empty"),
        ({"userId": "u1", "message": "x" * 5_000}, 400, "message: it is longer than"),
        ({"userId": "u1", "message": "hi", "runId": "$where"}, 400, "runId: "),
        ({"userId": "u1", "message": "hi", "messageId": ""}, 400, "messageId: "),
        ({"userId": "u1", "message": 5}, 422, "message"),
        ({"userId": "u1", "message": "hi", "budget": 5}, 422, "no such field"),
    ],
)
async def test_what_cannot_be_used_is_named(
    bare: Api, body: dict[str, Any], status: int, said: str
) -> None:
    answer = await bare.http.post("/api/chat", json=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]


async def test_without_its_services_the_chat_is_503(bare: Api) -> None:
    assert (await say(bare, GOAL)).status_code == 503
