"""From what a person says to a run: what is understood, what is asked back, and the run's start."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from domain.errors import LEAVES_OUT, InvalidInput, NotAllUsed
from domain.goals import (
    ASK_FOR_JOB,
    LONGEST_GOAL,
    MOST_UNASKED,
    Reading,
    check_goal,
    plain,
)
from domain.goals.left_out import NOTHING_LEFT_OUT, LeftOut
from domain.goals.reading import hours
from domain.intents import Wants, in_all
from domain.jobs import JobSpec
from domain.money import Usd
from domain.phrasing import asks, only_asks, without_greeting
from domain.quotes import Vendor
from domain.utterance import Utterance
from graph.deps import Deps
from graph.goals.reader import GoalReader, Heard, Reads, RuleReader, read_said
from ledger.run import Run

MOST_NAMED: Final = 10
START_ANYWAY: Final = (
    "It starts only once you have said yes to that: in the chat, with `gpu-renter start --yes`, or "
    "with acceptNotUsed over the API"
)
_START_ANYWAY: Final = re.compile(
    r"(?:(?:yes|yeah|yep|y|ok(?:ay)?|sure|fine|agreed)(?:[,!.]? (?:please|do(?: it| that)?|"
    r"(?:please )?(?:start|run|go)(?: it)?(?: (?:ahead|on))?(?: (?:anyway|all the same|now))?))*|"
    r"(?:please )?(?:start|run)(?: it)?(?: (?:anyway|all the same))?|"
    r"(?:please )?(?:go ahead|do it|go on)(?: (?:anyway|all the same))?)(?:[,]? please)?",
    re.I,
)
_GOES_ON: Final = re.compile(
    r"(?:and|but|also|then|so|or|actually|instead|rather|make (?:it|that)|change|use|with|for|on|"
    r"at|in|only|ok(?:ay)?|yes|no)\b",
    re.I,
)
"""How a message begins that goes on with what was said before."""
_LONGEST_AMOUNT: Final = 24
"""Characters."""
_AMOUNT: Final = re.compile(r"\s*(?:us)?\$?\s*[0-9.,]+\s*(?:usdc?|dollars?|bucks?)?\s*", re.I)
"""An amount of money, and nothing else."""
_ANY_VENDOR: Final = re.compile(
    r"(?:ok(?:ay)?,? )?(?:(?:rent )?(?:from|at|use|take) )?any(?:\s?one|body|where)?"
    r"(?: (?:registered )?(?:vendor|provider))?(?: (?:of them|you (?:have|know)|will do|is fine))*"
    r"(?:,? please)?[.!]?",
    re.I,
)


@dataclass(frozen=True, slots=True)
class GoalRequest:
    """A goal that can be started."""

    goal: str
    budget: Usd
    heard: Heard
    leaves_out: LeftOut = NOTHING_LEFT_OUT
    """What the goal says and the run ignores; the person accepted this for their own."""


class Refusal(str):
    """A question that is asked because the last message cannot be used at all."""


class AskAnyway(str):
    """The question whether to start although the run leaves out things that the goal names.

    `own`: the things that a yes gives up.
    """

    own: tuple[str, ...] = ()

    @classmethod
    def about(cls, leaves_out: LeftOut) -> AskAnyway:
        question = cls(
            f"{leaves_out.line} {LEAVES_OUT}. Shall I start it all the same? Then say "
            '"yes, start it"; else say "no", and I start nothing.'
        )
        question.own = leaves_out.own
        return question


def says_start_anyway(text: str) -> bool:
    """Whether a message is a yes to AskAnyway, and nothing else."""
    return bool(_START_ANYWAY.fullmatch(plain(text).rstrip(" .!")))


async def understand(
    reader: Reads,
    said: Sequence[Utterance],
    vendors: Sequence[Vendor] | None = None,
    *,
    sure: bool = False,
    accepted: Collection[str] = (),
) -> GoalRequest | str:
    """What these utterances come to: a complete request, or the next question.

    vendors: the registry, if at hand; a goal may then only name vendors in it to rent from alone.
    sure: the budget came in a field of its own, and is not confirmed again. accepted: the left-out
    things that the person has said yes to.

    AskAnyway goes by rules alone: no model's reading makes a GoalRequest of a goal that names more
    of the person's own.
    """
    try:
        heard = await reader.read(said)
        reading = heard.reading
        if reading == Reading():
            return Refusal(ASK_FOR_JOB)
        if _vendors_are_left_open(said):
            reading = replace(reading, only_vendors=())
        if reading.question or reading.budget is None:
            return reading.question
        if vendors is not None and (question := _unregistered(reading, vendors)):
            return question
        if not sure and reading.budget > MOST_UNASKED and not _said_twice(said, reading.budget):
            return (
                f"That is {reading.budget}, more than the {MOST_UNASKED} that I take for granted. "
                f'If you mean it, say "{in_all(reading.budget)}"; else say how much I may spend.'
            )
        goal = goal_of(said)
        if set(goal.left_out.own) - set(accepted):
            return AskAnyway.about(goal.left_out)
        heard = replace(heard, reading=reading)
        return GoalRequest(goal.text, reading.budget, heard, goal.left_out)
    except InvalidInput as problem:
        return Refusal(f"I cannot use that: {problem}")


def begins_anew(said: Utterance, before: Sequence[Utterance]) -> bool:
    """Whether a message is a goal by itself, and not the rest of what was said before it."""
    if "jobType" in read_said(before).missing or _GOES_ON.match(said.text.strip()):
        return False
    try:
        return bool(said.reading.job_type and not said.reading.missing)
    except InvalidInput:
        return False


def _said_twice(said: Sequence[Utterance], amount: Usd) -> bool:
    return sum(utterance.answer.amount == amount for utterance in said) > 1


def _unregistered(reading: Reading, vendors: Sequence[Vendor]) -> str:
    """The question about vendors that the goal names and nobody knows; or nothing."""
    ids = _ids(vendors)
    unknown = [name for name in reading.only_vendors if not _id_of(name, ids)]
    if not unknown:
        return ""
    known = sorted({vendor.name for vendor in vendors})
    return (
        f"No vendor is registered here as {' or '.join(unknown)[:100]}. "
        f"I can rent from {', '.join(known[:MOST_NAMED]) or 'nobody yet'}. "
        'Say "only from" one of them, or "any vendor".'
    )


def _vendors_are_left_open(said: Sequence[Utterance]) -> bool:
    """Whether "any vendor" was said, and no vendor was named after it."""
    for utterance in reversed(said):
        if _ANY_VENDOR.fullmatch(utterance.found.text):
            return True
        if utterance.found.only.names:
            return False
    return False


def goal_of(said: Sequence[Utterance]) -> Utterance:
    """The goal's own words: the messages less greetings and bare answers to "How much?"."""
    words = [without_greeting(u.text) for u in said if not (_only_answers(u) and len(said) > 1)]
    text, last = check_goal(" ".join(words)[:LONGEST_GOAL]), said[-1]
    return last if text == last.text else Utterance(text, last.at)


def _only_answers(said: Utterance) -> bool:
    if said.intent.wants is Wants.RAISE:
        return True
    short = len(said.text) <= _LONGEST_AMOUNT
    return bool(short and _AMOUNT.fullmatch(said.text) and said.answer.amount)


def check_budget(goal: Utterance, budget: Usd) -> None:
    """Raise InvalidInput for a goal that no tick could read, and where its own words allow less
    than the budget beside it.
    """
    goal.reading.check_clear()
    said = goal.reading.budget
    if said is not None and said < budget:
        raise InvalidInput(
            "budgetTotal",
            f"the goal says {said} at most, and this is {budget}",
            "Say the same in both, or leave the amount out of the goal",
        )


def check_start(reader: GoalReader, goal: Utterance, *, accepted: bool, remedy: str) -> LeftOut:
    """What a run for the goal leaves out. Raises InvalidInput where nothing can be rented for it by
    the rules; where a model reads too, only for a mere question, because it may find a job that
    they miss. Raises NotAllUsed where the goal names things of the person's own, and they have not
    accepted that. remedy: how to accept it.
    """
    if isinstance(reader, RuleReader) or only_asks(goal.text):
        check_is_job(goal.text, goal.reading)
    if goal.left_out.own and not accepted:
        raise NotAllUsed(goal.left_out.words, remedy)
    return goal.left_out


def check_is_job(goal: str, reading: Reading) -> None:
    """Raise InvalidInput where the goal, as read, names nothing to rent."""
    if why := no_job(goal, reading):
        raise InvalidInput("goal", f"it {why}", ASK_FOR_JOB)


def no_job(goal: str, reading: Reading) -> str:
    """Why nothing can be rented for a goal; empty where something can."""
    if only_asks(goal):
        return "is a question"
    if reading.job_type is not None:
        return ""
    if reading.gpu_type is None and reading.minutes is None:
        return "says neither what to run nor on what"
    return "is a question" if asks(goal) else ""


async def begin(deps: Deps, run_id: str, user_id: str, request: GoalRequest) -> Run:
    """Create the run for a request, with its spec; repeating it gives the same run. Raises
    TooManyRuns.
    """
    spec = await spec_of_reading(deps, request.heard.reading)
    return await deps.ledger.runs.create(
        run_id,
        user_id,
        request.goal,
        request.budget,
        deps.now(),
        spec=spec,
        used=request.heard.used,
        leaves_out=request.leaves_out,
        accepted=True,
        most_open=deps.limits.open_runs,
    )


async def spec_of_reading(deps: Deps, reading: Reading) -> JobSpec:
    """The job spec, with the vendors that it names turned into their ids."""
    spec = reading.spec()
    if not (spec.excluded_vendors or spec.only_vendors):
        return spec
    return resolved(spec, await deps.ledger.vendors.all())


def resolved(spec: JobSpec, vendors: Sequence[Vendor]) -> JobSpec:
    """The spec with the registry's ids in place of the vendors' names."""
    ids = _ids(vendors)
    out, only = (
        tuple(_id_of(name, ids) or name for name in names)
        for names in (spec.excluded_vendors, spec.only_vendors)
    )
    allowed = tuple(v for v in only if v not in out)
    # If exclusions leave no vendor, keep the list: an empty one would allow any.
    return replace(spec, excluded_vendors=out, only_vendors=allowed or only)


def _ids(vendors: Sequence[Vendor]) -> dict[str, str]:
    """A vendor's name or id, however it is spelled → its id."""
    return {_bare(v.name): v.vendor_id for v in vendors} | {
        _bare(v.vendor_id): v.vendor_id for v in vendors
    }


def _id_of(name: str, ids: Mapping[str, str]) -> str | None:
    """The id of the vendor that is called so, or "so vendor"."""
    shorter = re.sub(r"\s+(?:vendor|provider)$", "", name, flags=re.I)
    return ids.get(_bare(name)) or ids.get(_bare(shorter))


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def understood(spec: JobSpec, budget: Usd, by_memory: int | None = None) -> str:
    """The spec in one sentence, with what was guessed."""
    parts = [
        f"{spec.job_type} on {spec.gpu_count} × {spec.gpu} for {hours(spec.minutes)}, "
        f"within {budget}"
    ]
    if spec.max_hourly:
        parts.append(f"at most {spec.max_hourly} an hour")
    if spec.deadline:
        parts.append(f"done by {spec.deadline:%Y-%m-%d %H:%M %Z}")
    if spec.preference:
        parts.append(f"{spec.preference.value} first")
    if spec.only_vendors:
        parts.append(f"only from {' or '.join(spec.only_vendors)}")
    if spec.excluded_vendors:
        parts.append(f"without {', '.join(spec.excluded_vendors)}")
    said = ", ".join(parts)
    if by_memory:
        said += f" (for {by_memory} GB)"
    values = {
        "gpuType": spec.gpu_type,
        "maxHours": hours(spec.minutes),
        "jobType": spec.job_type,
    }
    assumed = ", ".join(values[name] for name in spec.guessed)
    return said + (f" (not said, so assumed: {assumed})" if assumed else "")
