"""From what a person says to a run: what is understood, what is asked back, and the run's start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from domain.errors import InvalidInput
from domain.goals import (
    ASK_FOR_JOB,
    LONGEST_GOAL,
    Reading,
    check_goal,
    plain,
    read_answer,
    read_budget,
)
from domain.goals.reading import hours
from domain.intents import asks, only_asks, without_greeting
from domain.jobs import JobSpec
from domain.money import Usd
from domain.quotes import Vendor
from graph.deps import Deps
from graph.reader import GoalReader, Heard, RuleReader, read_said
from ledger.drafts import Utterance
from ledger.run import Run


@dataclass(frozen=True, slots=True)
class Wish:
    """A goal that can be started."""

    goal: str
    budget: Usd
    heard: Heard


class Refusal(str):
    """A question that is asked because what was said last cannot be used at all."""


async def understand(reader: GoalReader, said: Sequence[Utterance]) -> Wish | str:
    """What these utterances come to: a wish that is complete, or the next question."""
    try:
        heard = await reader.read(said)
        reading = heard.reading
        if reading.question or reading.budget is None:
            return reading.question
        return Wish(check_goal(goal_of(said)), reading.budget, heard)
    except InvalidInput as problem:
        return Refusal(f"I cannot use that: {problem}")


def goal_of(said: Sequence[Utterance]) -> str:
    """The goal's own words: what was said, less greetings and what only answers "How much?"."""
    words = [without_greeting(u.text) for u in said if not (is_amount(u.text) and len(said) > 1)]
    return " ".join(words)[:LONGEST_GOAL]


def is_amount(text: str) -> bool:
    """Whether a text is an amount of money and nothing else."""
    return bool(re.fullmatch(r"[\s$0-9.,a-zA-Z]{1,24}", text)) and bool(
        re.fullmatch(r"\s*(?:us)?\$?\s*[0-9.,]+\s*(?:usdc?|dollars?|bucks?)?\s*", text, re.I)
        and read_answer(text).amount
    )


def says_no_job(goal: str, reading: Reading) -> str:
    """Why a goal is none that anything could be rented for; empty where it is one."""
    return f"the goal {why}. {ASK_FOR_JOB}" if (why := _no_job(goal, reading)) else ""


def check_says_job(reader: GoalReader, goal: str, now: datetime) -> None:
    """Raise InvalidInput where the goal is none, as far as that is known before it is read: a model
    may hear a job where the rules do not, so what they miss is left to the first tick then.
    """
    why = _no_job(goal, read_said([Utterance(goal, now)]))
    if why and (isinstance(reader, RuleReader) or only_asks(goal)):
        raise InvalidInput("goal", f"it {why}", ASK_FOR_JOB)


def _no_job(goal: str, reading: Reading) -> str:
    if only_asks(goal):
        return "is a question"
    if reading.job_type is not None:
        return ""
    if reading.gpu_type is None and reading.minutes is None:
        return "says neither what to run nor on what"
    return "is a question" if asks(goal) else ""


def check_budget(goal: str, budget: Usd) -> None:
    """Raise InvalidInput where the goal's own words allow less than the budget beside it."""
    said = read_budget(plain(goal)).amount
    if said is not None and said < budget:
        raise InvalidInput(
            "budgetTotal",
            f"the goal says {said} at most, and this is {budget}",
            "Say the same in both, or leave the amount out of the goal",
        )


async def begin(deps: Deps, run_id: str, user_id: str, wish: Wish) -> Run:
    """The run for a wish, with the spec that was understood. Again, it gives the same run."""
    spec = await spec_of_reading(deps, wish.heard.reading)
    return await deps.ledger.runs.create(
        run_id, user_id, wish.goal, wish.budget, deps.now(), spec=spec, used=wish.heard.used
    )


async def spec_of_reading(deps: Deps, reading: Reading) -> JobSpec:
    """The job spec, with vendors that are left out by name turned into their ids."""
    spec = reading.spec()
    if not spec.excluded_vendors:
        return spec
    return resolved(spec, await deps.ledger.vendors.all())


def resolved(spec: JobSpec, vendors: Sequence[Vendor]) -> JobSpec:
    """The spec with the registry's ids for the vendors that it leaves out by name."""
    ids = {_bare(v.name): v.vendor_id for v in vendors} | {
        _bare(v.vendor_id): v.vendor_id for v in vendors
    }
    return replace(
        spec, excluded_vendors=tuple(ids.get(_bare(name), name) for name in spec.excluded_vendors)
    )


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def understood(spec: JobSpec, budget: Usd, by_memory: int | None = None) -> str:
    """The spec in one sentence, with what was guessed."""
    parts = [
        f"{spec.job_type} on {spec.gpu_count} × {spec.gpu_type} for {hours(spec.minutes)}, "
        f"within {budget}"
    ]
    if spec.deadline:
        parts.append(f"done by {spec.deadline:%Y-%m-%d %H:%M %Z}")
    if spec.preference:
        parts.append(f"{spec.preference.value} first")
    if spec.excluded_vendors:
        parts.append(f"without {', '.join(spec.excluded_vendors)}")
    said = ", ".join(parts)
    if by_memory:
        said += f" ({spec.gpu_type} for {by_memory} GB)"
    values = {
        "gpuType": spec.gpu_type,
        "maxHours": hours(spec.minutes),
        "jobType": spec.job_type,
    }
    assumed = ", ".join(values[name] for name in spec.guessed)
    return said + (f" (not said, so assumed: {assumed})" if assumed else "")
