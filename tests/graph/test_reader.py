"""A model that reads goals: checked by the rules, and replaced by them when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from pydantic import SecretStr

from domain.intents import Wants
from domain.jobs import Preference
from domain.money import Usd
from domain.utterance import Utterance
from graph.goals.goal_request import AskAnyway, understand
from graph.goals.reader import ModelReader, read_said
from graph.planner.fireworks import open_fireworks
from tests.support.fireworks_stand_in import (
    Answer,
    Fireworks,
    Script,
    calls,
    fireworks,
    garbage,
    refuses,
    says,
    slowly,
)

NOW = datetime(2026, 11, 18, 10, tzinfo=UTC)
GOAL = "Tune a llama for a couple hours on an H100, keep it under $5, not at vendor 2"


def said(*texts: str) -> list[Utterance]:
    return [Utterance(text, NOW) for text in texts]


def reads(**fields: Any) -> Answer:
    return calls(("SaidGoal", fields))


@contextmanager
def reader(*scripts: Script, timeout_s: float = 20.0) -> Iterator[tuple[ModelReader, Fireworks]]:
    with fireworks(*scripts) as stand_in:
        model = open_fireworks("stand-in", SecretStr("key"), stand_in.base_url, timeout_s)
        yield ModelReader(model, "stand-in", timeout_s), stand_in


async def test_the_model_reads_what_the_rules_do_not() -> None:
    answer = reads(
        jobType="fine-tune",
        gpuType="H100",
        maxHours=2,
        budgetTotal=5,
        preference="reliable",
        deadline="2026-11-19T12:00:00+00:00",
        excludedVendors=["gpu_vendor_2"],
    )
    with reader(answer) as (model, stand_in):
        heard = await model.read(said(GOAL))
        await model.aclose()
    reading = heard.reading
    assert (heard.reader, heard.fallback) == ("stand-in", "")
    assert (reading.job_type, reading.minutes, reading.budget) == ("fine-tune", 120, Usd.parse(5))
    assert reading.preference is Preference.RELIABLE
    assert reading.deadline == datetime(2026, 11, 19, 12, tzinfo=UTC)
    assert reading.excluded_vendors == ("gpu_vendor_2",)
    assert stand_in.tools_offered() == ["SaidGoal"]


@pytest.mark.parametrize("dollars", [50, 4.99, 1_000_000])
async def test_a_budget_that_the_person_did_not_name_is_asked_back(dollars: float) -> None:
    with reader(reads(jobType="training", budgetTotal=dollars)) as (model, _):
        reading = (await model.read(said(GOAL))).reading
        await model.aclose()
    assert reading.budget is None
    assert reading.question.startswith("You named $5.00 and $")


async def test_a_budget_where_the_words_have_none_is_asked_back() -> None:
    with reader(reads(jobType="training", budgetTotal=7)) as (model, _):
        reading = (await model.read(said("Train on 7 A100 for 7 hours"))).reading
        await model.aclose()
    assert reading.budget is None
    assert "budgetTotal" in reading.missing


async def test_a_vendor_gpu_or_past_that_nobody_named_does_not_stand() -> None:
    answer = reads(
        gpuType="GB200", deadline="2020-01-01T00:00:00Z", excludedVendors=["gpu_vendor_1", "Acme"]
    )
    with reader(answer) as (model, _):
        reading = (await model.read(said("Train something for $5"))).reading
        await model.aclose()
    assert (reading.gpu_type, reading.deadline, reading.excluded_vendors) == (None, None, ())


@pytest.mark.parametrize(
    "script",
    [
        refuses(429),
        refuses(500),
        refuses(401),
        garbage(),
        says("I think you want an A100"),
        calls(("rent", {"vendor_id": "x"})),
        calls(("SaidGoal", "no json")),
        reads(maxHours=-1),
        reads(jobType="mining"),
        reads(budgetTotal="5; drop table"),
        reads(gpuCount=10**9),
        reads(surprise=1),
        slowly(reads(jobType="training"), 2.0),
    ],
)
async def test_a_model_that_fails_is_replaced_by_the_rules(script: Script) -> None:
    with reader(script, timeout_s=0.5) as (model, _):
        heard = await model.read(said(GOAL))
        await model.aclose()
    assert heard.reading == read_said(said(GOAL))
    assert heard.reader == "rules"
    assert heard.fallback


async def test_a_question_is_told_apart_by_the_model_where_the_words_do_not() -> None:
    with reader(calls(("Asks", {"wants": "spent"})), says("no")) as (model, stand_in):
        before = [HumanMessage("x" * 5_000)] * 200
        [odd, usual] = said("hand me the ledger", "How is it going?")
        assert (await model.wants(odd, before)).wants is Wants.SPENT
        assert (await model.wants(odd, before)).wants is Wants.OTHER
        assert (await model.wants(usual, before)).wants is Wants.STATUS
        await model.aclose()
    assert len(stand_in.requests) == 2


async def test_a_model_cannot_stop_raise_or_approve() -> None:
    with reader(calls(("Asks", {"wants": "stop"}))) as (model, _):
        [thought] = said("please think about stopping")
        assert (await model.wants(thought, [])).wants is Wants.OTHER
        await model.aclose()


async def test_what_a_reading_used_is_told_also_where_it_was_of_no_use() -> None:
    with reader(reads(jobType="training"), says("no"), refuses(429)) as (model, _):
        useful, useless, refused = [(await model.read(said(GOAL))).used for _ in range(3)]
        await model.aclose()
    assert useful.tokens > 0
    assert useless.tokens > 0
    assert (refused.calls, refused.tokens) == (1, 0)


async def test_a_model_takes_nothing_off_what_is_left_out() -> None:
    goal = said("Run my train.py on an A100 tomorrow at 9am for 2 hours, under $5")
    with reader(*[reads(jobType="training", deadline="2026-11-19T09:00:00+00:00")] * 2) as made:
        model, _ = made
        heard = await model.read(goal)
        asked = await understand(model, goal)
        await model.aclose()
    assert heard.reading.deadline is None, "it is when to start"
    assert isinstance(asked, AskAnyway)
    assert asked.own == ("train.py", "tomorrow at 9am")
