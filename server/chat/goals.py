"""A conversation that has no run yet: a goal becomes one, and a question is about the newest."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from domain.errors import InvalidInput
from domain.goals import ASK_FOR_JOB, DEFAULT_JOB, Reading
from domain.ids import new_run_id
from domain.intents import QUESTIONS, Intent, Wants
from domain.names import Names, named, names_of
from domain.phrasing import asks, asks_of_a_run, greets, not_yet, only_asks
from domain.quotes import Vendor
from domain.utterance import Utterance
from graph.deps import Deps
from graph.goals.goal_request import (
    AskAnyway,
    GoalRequest,
    Refusal,
    begin,
    begins_anew,
    says_start_anyway,
    understand,
    understood,
)
from graph.planner.meter import MeteredReader, TokenMeter
from ledger.drafts import Draft, Drafts
from ledger.run import Run
from server.chat.answers import HELP, NOT_STARTED, WELCOME
from server.chat.market import prices
from server.chat.progress import list_runs
from server.chat.replies import Said

FORGOTTEN: Final = "Forgotten. Tell me a new goal whenever you like."
STARTED: Final = (
    "Run {} has begun, and may spend {} at most. I look for a GPU, rent it and watch over the job; "
    'ask "how is it going?" at any time. If nothing moves, say "go on", and I take the next step '
    "at once."
)
_ASKS_ABOUT: Final = re.compile(
    r"(?:how|what|why|where|when|who|which|is|are|was|were|did|does|do you|has|have you|show)\b",
    re.I,
)
About = Callable[[Run, Intent, str], AsyncIterator[Said]]
"""Answers a message about a run, and does what it asks."""


class GoalTalk:
    """session: the conversation's name, which its draft is kept under. about: of an older run."""

    def __init__(self, deps: Deps, session: str, user_id: str, about: About) -> None:
        self._deps = deps
        self._session = session
        self._user_id = user_id
        self._about = about
        self._drafts = Drafts(deps.ledger.store)

    async def begun(self) -> bool:
        """Whether a goal was said in part, and waits for the rest."""
        return await self._open_draft() is not None

    async def waits_for_a_yes(self) -> bool:
        """Whether a goal is complete, and the person was asked whether to start it all the same."""
        draft = await self._open_draft()
        return draft is not None and bool(draft.asked_about)

    async def answer(self, utterance: Utterance, message_id: str) -> AsyncIterator[Said]:
        """A goal, or a part of one; or a question about the user's newest run."""
        draft = await self._open_draft()
        text, intent, reading = utterance.text, utterance.intent, read_words(utterance)
        if draft and draft.asked_about and says_start_anyway(text):
            async for piece in self._start_anyway(draft):
                yield piece
            return
        if draft and (
            intent.wants is Wants.STOP
            or (intent.wants is Wants.STOP_PERHAPS and not _is_goal(intent, reading))
            or (intent.wants is Wants.NO and draft.asked_about)
        ):
            await self._drafts.forget(self._session)
            yield Said(FORGOTTEN, "action")
            return
        if said := await self._in_passing(text, intent, draft):
            yield said
            return
        question = only_asks(text) or (asks(text) and not reading.job_type)
        if question:
            about_prices = intent.wants in (Wants.SPENT, Wants.OTHER) and not asks_of_a_run(text)
            if reading.gpu_type and about_prices:
                yield await prices(self._deps, reading)
                return
            if draft or intent.wants is Wants.OTHER:
                yield Said(HELP)
                return
        if question or (
            intent.wants is not Wants.OTHER
            and (not draft or intent.wants in (Wants.RESULT, Wants.REFUND))
            and not _is_goal(intent, reading)
        ):
            async for said in self._about_newest(intent, message_id):
                yield said
            return
        async for said in self._take(draft, utterance):
            yield said

    async def _in_passing(self, text: str, intent: Intent, draft: Draft | None) -> Said | None:
        """The answer to a message that is neither a goal nor about one run."""
        if intent.wants is Wants.RUNS:
            return Said((await list_runs(self._deps, self._user_id)).text)
        if intent.wants is Wants.PRICES:
            return await prices(self._deps)
        if intent.wants is Wants.HELP:
            return Said(HELP)
        if intent.wants is Wants.THANKS:
            return Said(WELCOME)
        if intent.wants in (Wants.YES, Wants.NO) and draft:
            reader = self._reader(draft)
            asked = await understand(reader, draft.said, await self._vendors())
            if isinstance(asked, AskAnyway):
                await self._drafts.asks_about(draft, asked.own)
            return Said(asked if isinstance(asked, str) else HELP, "question")
        if greets(text):
            return Said(HELP) if draft else Said(ASK_FOR_JOB, "question")
        return Said(NOT_STARTED, "question") if not_yet(text) else None

    async def _take(self, draft: Draft | None, utterance: Utterance) -> AsyncIterator[Said]:
        """The goal with one thing more, kept where something is still to be asked."""
        anew = draft is not None and begins_anew(utterance, draft.said)
        before = draft.said if draft and not anew else ()
        vendors = await self._vendors()
        reader = self._reader(None if anew else draft)
        request = await understand(reader, [*before, utterance], vendors)
        if reader.by_rules_alone:
            yield Said(reader.by_rules_alone)
        if isinstance(request, Refusal):
            yield Said(str(request), "question")
            return
        if draft and anew:
            draft = await self._drafts.replace(draft, utterance, new_run_id(), reader.used)
        else:
            draft = await self._drafts.add(
                draft, self._session, utterance, new_run_id(), reader.used
            )
        async for said in self._ask_or_start(draft, request, vendors):
            yield said

    async def _start_anyway(self, draft: Draft) -> AsyncIterator[Said]:
        """The run for a goal of which the person knows what is left out."""
        vendors, accepted = await self._vendors(), draft.asked_about
        reader = self._reader(draft)
        request = await understand(reader, draft.said, vendors, accepted=accepted)
        draft = replace(draft, used=draft.used + reader.used)
        async for said in self._ask_or_start(draft, request, vendors):
            yield said

    async def _open_draft(self) -> Draft | None:
        """The draft of the goal so far. One that is too old, or whose run a crash left behind, is
        dropped.
        """
        draft = await self._drafts.find(self._session)
        if draft is None:
            return None
        over = draft.too_old(self._deps.now())
        if over or await self._deps.ledger.runs.find(draft.run_id):
            await self._drafts.drop(draft)
            return None
        return draft

    async def _ask_or_start(
        self, draft: Draft, request: GoalRequest | str, vendors: list[Vendor]
    ) -> AsyncIterator[Said]:
        """The question that is still open, or the run."""
        if isinstance(request, AskAnyway):
            await self._drafts.asks_about(draft, request.own)
        if isinstance(request, str):
            yield Said(request, "question")
            return
        async for said in self._start(draft, request, names_of(vendors)):
            yield said

    async def _start(self, draft: Draft, request: GoalRequest, names: Names) -> AsyncIterator[Said]:
        request = replace(request, heard=replace(request.heard, used=draft.used))
        run = await begin(self._deps, draft.run_id, self._user_id, request)
        await self._drafts.forget(self._session)
        yield Said(f"Run {run.id}", "run", {"runId": run.id})
        if run.spec is not None:
            by_memory = request.heard.reading.by_memory
            sentence = understood(run.spec, run.budget_total, by_memory)
            yield Said(f"Understood: {named(sentence, names)}.")
        if request.leaves_out.words:
            words = list(request.leaves_out.words)
            yield Said(request.leaves_out.line, "words", {"notUsed": words})
        yield Said(
            STARTED.format(run.id, run.budget_total),
            "action",
            {"runId": run.id, "action": "started"},
        )

    async def _about_newest(self, intent: Intent, message_id: str) -> AsyncIterator[Said]:
        """Answer a message that names no run by the newest. Only questions are answered: a change
        must name its run, unless a single one is running, and a large amount always must.
        """
        runs = await self._deps.ledger.runs.recent(user_id=self._user_id, limit=20)
        running = [r for r in runs if not r.status.ended]
        asked = intent.wants in QUESTIONS
        if not runs:
            yield Said(ASK_FOR_JOB, "question")
        elif not asked and (len(running) != 1 or intent.sure):
            ids = ", ".join(r.id for r in running) or "none is running"
            yield Said(f"Which run do you mean? Send its runId: {ids}", "question")
        else:
            run = (running or runs)[0] if asked else running[0]
            async for said in self._about(run, intent, message_id):
                yield said

    def _reader(self, draft: Draft | None) -> MeteredReader:
        """Reads the next message, counted against the user's tokens and the future run's."""
        before = draft.used.tokens if draft else 0
        return MeteredReader(
            self._deps.reader, TokenMeter(self._deps, self._user_id, before=before)
        )

    async def _vendors(self) -> list[Vendor]:
        return await self._deps.ledger.vendors.all()


def is_new_goal(said: Utterance) -> bool:
    """Whether a message to a run is a goal of its own: what to run, and on what for how much."""
    if said.intent.wants not in (Wants.OTHER, Wants.SPENT, Wants.STATUS, Wants.LOWER):
        return False
    reading = read_words(said)
    named = reading.job_type and reading.gpu_type and (reading.budget or reading.minutes)
    return bool(named) and not asks(said.text) and not _ASKS_ABOUT.match(said.text.strip())


def read_words(said: Utterance) -> Reading:
    """The rules' reading; where it is unusable, one that says only that there was something."""
    try:
        return said.reading
    except InvalidInput:
        return Reading(job_type=DEFAULT_JOB)


def _is_goal(intent: Intent, reading: Reading) -> bool:
    """Whether a message that could be a question says something of a job all the same."""
    return intent.wants in QUESTIONS and reading != Reading()
