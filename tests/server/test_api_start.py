"""POST /api/agent-start: what it takes, and what it says about the rest."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import httpx
import pytest

from domain.policy import OpenRuns
from server.app import create_app
from server.wiring import Services
from tests.server.conftest import GOAL, Api, opening, serving

ABSENT = object()
ISO_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def started(api: Api, **changes: Any) -> httpx.Response:
    body = {"userId": "u1", "goal": GOAL, "budgetTotal": 5, **changes}
    body = {name: value for name, value in body.items() if value is not ABSENT}
    return await api.http.post("/api/agent-start", json=body)


async def sent(api: Api, body: bytes, content_type: str = "application/json") -> httpx.Response:
    headers = {"content-type": content_type}
    return await api.http.post("/api/agent-start", content=body, headers=headers)


async def test_a_started_run_is_answered_in_the_seeds_shape(api: Api) -> None:
    answer = await started(api)
    run = answer.json()

    assert answer.status_code == 200
    assert re.fullmatch(r"[0-9a-f]{24}", run.pop("_id"))
    assert ISO_UTC.fullmatch(run.pop("createdAt"))
    assert run == {
        "userId": "u1",
        "goal": GOAL,
        "status": "running",
        "budgetTotal": 5,
        "budgetRemaining": 5,
        "notUsed": [],
    }


async def test_each_call_starts_another_run(api: Api) -> None:
    assert (await api.start())["_id"] != (await api.start())["_id"]


@pytest.mark.parametrize(
    ("written", "dollars"),
    [
        (1.1, 1.1),
        ("5", 5),
        ("$5.00", 5),
        ("1.4 USDC", 1.4),
        ("$1,400.50", 1400.5),
        (2147.483648, 2147.483648),
        (0.000001, 0.000001),
        (999999999.999999, 999999999.999999),
        (1_000_000_000, 1e9),
    ],
)
async def test_a_budget_is_kept_to_the_micro_dollar(api: Api, written: Any, dollars: float) -> None:
    run = await api.start(budgetTotal=written)

    assert run["budgetTotal"] == run["budgetRemaining"] == dollars
    assert (await api.status(run["_id"]))["run"]["budgetTotal"] == dollars


@pytest.mark.parametrize(
    ("budget", "status", "said"),
    [
        (0, 400, "must be above 0"),
        ("0.00", 400, "must be above 0"),
        (-1, 400, "-1 is negative"),
        ("-0.01", 400, "is negative"),
        (1e300, 400, "above a billion dollars"),
        (1_000_000_001, 400, "above a billion dollars"),
        ("five", 400, "'five' is not an amount"),
        ("", 400, "is not an amount"),
        ("5" + " " * 70 + "garbage", 400, "too long"),
        ("1e3", 400, "is not an amount"),
        ("1,4", 400, "is not an amount"),
        ("1,,400", 400, "is not an amount"),
        (0.0000001, 400, "more than 6 decimals"),
        ("1.0000001", 400, "more than 6 decimals"),
        (True, 422, "is not an amount"),
        (None, 422, "is not an amount"),
        ([5], 422, "is not an amount"),
        ({"$gt": 0}, 422, "is not an amount"),
        (ABSENT, 422, "it is missing"),
    ],
)
async def test_an_unusable_budget_is_named_with_its_remedy(
    bare: Api, budget: Any, status: int, said: str
) -> None:
    answer = await started(bare, budgetTotal=budget)

    assert answer.status_code == status
    assert answer.json().keys() <= {"error", "field", "code"}
    assert answer.json()["field"] == "budgetTotal"
    assert re.match(rf"budgetTotal: .*{re.escape(said)}.*\. \w", answer.json()["error"])


@pytest.mark.parametrize("budget", [0, "0.00", -3, "-3", -0.01])
async def test_a_budget_that_buys_nothing_is_told_what_is_taken(bare: Api, budget: Any) -> None:
    said = (await started(bare, budgetTotal=budget)).json()["error"]

    assert said.endswith(". Give dollars above 0, like 5")


@pytest.mark.parametrize(
    "number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e999999999999", b"9" * 5000, b"05"]
)
async def test_a_number_that_is_no_amount_is_refused_however_it_is_written(
    bare: Api, number: bytes
) -> None:
    answer = await sent(bare, b'{"userId": "u1", "goal": "g", "budgetTotal": ' + number + b"}")

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "number", [b"5.0000000000000000001", b"5.00000000000000000000000000000000001"]
)
async def test_a_number_is_not_rounded_on_its_way_in(bare: Api, number: bytes) -> None:
    answer = await sent(bare, b'{"userId": "u1", "goal": "g", "budgetTotal": ' + number + b"}")

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("budgetTotal: ")


@pytest.mark.parametrize(
    ("goal", "status", "said"),
    [
        ("", 400, "it is empty"),
        (" \n\t\x00", 400, "it is empty"),
        ("x" * 4001, 400, "longer than 4,000 characters"),
        ("Train for 0 hours", 400, "not a usable duration"),
        ("Train for " + "9" * 400 + " hours", 400, "not a usable duration"),
        (5, 422, "it is not text"),
        (None, 422, "it is not text"),
        (["Fine-tune"], 422, "it is not text"),
        (ABSENT, 422, "it is missing"),
    ],
)
async def test_an_unusable_goal_is_named_with_its_remedy(
    bare: Api, goal: Any, status: int, said: str
) -> None:
    answer = await started(bare, goal=goal)

    assert answer.status_code == status
    assert re.match(rf"goal: .*{re.escape(said)}.*\. \w", answer.json()["error"])


@pytest.mark.parametrize(
    "goal",
    [
        "hello",
        "how much is an A100?",
        "what's the price of an A100",
        "A100 price?",
        "how much does training on an A100 cost?",
        "how much is an A100? do you have it?",
    ],
)
async def test_a_greeting_or_a_question_starts_nothing(api: Api, goal: str) -> None:
    answer = await started(api, goal=goal)

    assert answer.status_code == 400
    assert re.match(
        r"goal: it (says neither|is a question).*For example: Fine-tune a 7B model",
        answer.json()["error"],
    )
    runs = await api.http.get("/api/runs", params={"userId": "u1"})
    assert runs.json()["runs"] == []


@pytest.mark.parametrize(
    "goal",
    [
        "Can you train a model on an A100 for 2 hours?",
        "How about an A100 for 2 hours?",
        "2 hours",
        "How much can you do? Train on an A100 for 2 hours.",
    ],
)
async def test_a_goal_that_is_put_politely_starts(api: Api, goal: str) -> None:
    assert (await started(api, goal=goal)).status_code == 200


@pytest.mark.parametrize(
    ("goal", "status"),
    [
        ("Fine-tune on an A100, under $5", 400),
        ("Fine-tune on an A100, at most $49.99", 400),
        ("Fine-tune on an A100, under $50", 200),
        ("Fine-tune on an A100, under $500", 200),
        ("Fine-tune on $5 worth of data", 200),
    ],
)
async def test_a_budget_above_what_the_goal_allows_is_refused(
    api: Api, goal: str, status: int
) -> None:
    answer = await started(api, goal=goal, budgetTotal=50)

    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"].startswith("budgetTotal: the goal says $")


async def test_control_characters_do_not_reach_the_ledger(api: Api) -> None:
    run = await api.start(goal="Fine-tune\x00 on\x1b[31m an A100\u202e")

    assert run["goal"] == "Fine-tune  on [31m an A100"


async def test_half_a_character_does_not_reach_the_ledger(api: Api) -> None:
    body = rb'{"userId": "u1", "goal": "Train \ud800 it", "budgetTotal": 5}'
    answer = await sent(api, body)

    assert (answer.status_code, answer.json()["goal"]) == (200, "Train   it")


async def test_the_longest_goal_in_any_script_is_taken(api: Api) -> None:
    goal = "Train " + "訓" * 3994

    assert (await api.start(goal=goal))["goal"] == goal


@pytest.mark.parametrize(
    ("user_id", "status", "said"),
    [
        ("", 400, "it is empty"),
        ("  ", 400, "it is empty"),
        ("u" * 129, 400, "it is too long"),
        ("u\x00", 400, "control characters"),
        (7, 422, "it is not text"),
        (None, 422, "it is not text"),
        ({"$ne": None}, 422, "it is not text"),
        (ABSENT, 422, "it is missing"),
    ],
)
async def test_an_unusable_user_id_is_named_with_its_remedy(
    bare: Api, user_id: Any, status: int, said: str
) -> None:
    answer = await started(bare, userId=user_id)

    assert answer.status_code == status
    assert re.match(rf"userId: .*{re.escape(said)}.*\. \w", answer.json()["error"])


async def test_a_field_that_is_not_known_is_refused_by_name(bare: Api) -> None:
    answer = await started(bare, budgetTotl=500)

    assert answer.status_code == 422
    said = "budgetTotl: this request has no such field. Leave it out"
    assert answer.json() == {"error": said, "field": "budgetTotl", "code": "extra_forbidden"}


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"userId": }', b"\xff\xfe", b"[" * 60_000, b"{'userId': 'u1'}"],
    ids=["cut off", "no value", "not text", "too deep", "not quite JSON"],
)
async def test_malformed_json_is_a_bad_request(bare: Api, body: bytes) -> None:
    answer = await sent(bare, body)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("The body is not JSON. ")


@pytest.mark.parametrize("body", [b"[]", b"null", b'"u1"', b"5", b""])
async def test_json_that_is_no_object_is_refused(bare: Api, body: bytes) -> None:
    answer = await sent(bare, body)

    assert answer.status_code == 422
    assert answer.json()["error"].startswith("body: it is ")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_that_does_not_say_it_is_json_is_refused(bare: Api, content_type: str) -> None:
    answer = await sent(bare, b'{"userId": "u1", "goal": "Train", "budgetTotal": 5}', content_type)

    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


async def test_a_charset_beside_the_content_type_is_fine(api: Api) -> None:
    body = b'{"userId": "u1", "goal": "Train", "budgetTotal": 5}'

    assert (await sent(api, body, "Application/JSON; charset=utf-8")).status_code == 200


async def test_a_body_of_64_kib_is_read_and_a_byte_more_is_not(api: Api) -> None:
    body = b'{"userId": "u1", "goal": "Train", "budgetTotal": 5}'

    assert (await sent(api, body.ljust(64 * 1024))).status_code == 200
    answer = await sent(api, body.ljust(64 * 1024 + 1))

    assert answer.status_code == 413
    assert answer.json() == {"error": "The body is larger than 64 KiB. Send less"}


TRAIN_PY = (
    "Run my train.py from github.com/me/proj in docker image pytorch/pytorch on an A100 for 2 "
    "hours, under $5"
)
LEFT_OUT = ["train.py", "github.com/me/proj", "docker image pytorch/pytorch"]


async def test_a_program_of_ones_own_starts_nothing_before_a_yes(api: Api) -> None:
    for said in ({}, {"acceptNotUsed": False}):
        refused = await started(api, goal=TRAIN_PY, **said)
        assert refused.status_code == 409
        problem = refused.json()
        assert (problem["code"], problem["notUsed"]) == ("goal_not_all_used", LEFT_OUT)
        assert "train.py, github.com/me/proj, docker image pytorch/pytorch" in problem["error"]
        assert problem["error"].endswith("send acceptNotUsed: true")
    assert (await api.http.get("/api/runs")).json()["runs"] == []

    run = await api.start(goal=TRAIN_PY, acceptNotUsed=True)
    assert run["notUsed"] == LEFT_OUT
    assert await api.message(run["_id"]) == "Job started"
    status = await api.status(run["_id"])
    assert status["run"]["notUsed"] == LEFT_OUT
    told = [o["content"] for o in status["observations"]]
    assert "Not used: train.py, github.com/me/proj, docker image pytorch/pytorch." in told, (
        "the journal has it before the first payment"
    )
    paid = next(n for n, o in enumerate(status["observations"]) if "payment" in o["type"])
    assert [o["type"] for o in status["observations"]].index("not_used") < paid


async def test_other_words_are_said_and_wait_for_nothing(api: Api) -> None:
    assert (await api.start(goal="Train on an A100 in Europe, spot"))["notUsed"] == [
        "Europe",
        "spot",
    ]


async def test_a_yes_is_true_or_false(api: Api) -> None:
    assert (await started(api, acceptNotUsed="yes")).status_code == 422


async def test_more_runs_than_may_be_open_are_refused_with_the_settings_name(
    services: Services,
) -> None:
    limits = replace(services.deps.limits, open_runs=OpenRuns(a_user=1))
    limited = replace(services, deps=replace(services.deps, limits=limits))
    async with serving(create_app(opening(limited))) as api:
        await api.start()
        refused = await started(api)
        assert refused.status_code == 409
        assert refused.json()["code"] == "too_many_runs"
        assert "MAX_OPEN_RUNS_PER_USER" in refused.json()["error"]
        assert (await started(api, userId="u2")).status_code == 200
