"""Talking with the agent: a goal becomes a run, and a run answers for itself.

Facts and numbers come from the ledger. A model, where there is one, reads goals and tells which
question was asked; what moves money or ends a run is read by rules from the owner's own words.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from langchain_core.messages import AIMessage, HumanMessage

from domain.errors import InvalidInput, LeaseHeld, NotFound, RenterError
from domain.goals import ASK_FOR_JOB, DEFAULT_JOB, LONGEST_GOAL, Reading, check_goal
from domain.intents import (
    QUESTIONS,
    Intent,
    Wants,
    asks,
    asks_of_a_run,
    greets,
    not_yet,
    only_asks,
    read_intent,
)
from domain.names import named
from graph.reader import MOST_SHOWN, read_said
from graph.talk import HELP, NOT_STARTED, WELCOME, list_runs, reply, vendor_names
from graph.transcripts import Transcripts, session_of
from graph.wiring import Services, new_run_id
from graph.wishes import Refusal, Wish, begin, understand, understood
from ledger.drafts import Draft, Drafts, Utterance
from ledger.run import Run
from ledger.runs import FETCH, LONGEST_RUN_ID
from server.ticks import Ticker

LOG: Final = logging.getLogger(__name__)
Kind = Literal["words", "action", "question", "run", "error"]


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that the agent says or does. data: of `run`, {"runId": …}."""

    kind: Kind
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Chat:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._deps = services.deps
        self._drafts = Drafts(services.deps.ledger.store)
        self._transcripts = Transcripts.beside(services.checkpoints.saver)

    async def say(
        self,
        user_id: str,
        message: str,
        run_id: str | None = None,
        message_id: str | None = None,
    ) -> AsyncIterator[Said]:
        """What the agent answers, piece by piece, and what it does on the way.

        message_id: of this message; given again, it raises no budget again. Before the first
        piece: raises InvalidInput, NotFound for a run that is not this user's, and StoreDown.
        After it, a problem is the last piece, of kind `error`.
        """
        text = check_message(message)
        run = await self._own_run(user_id, run_id) if run_id else None
        session = session_of(user_id, run.id if run else None)
        await self._transcripts.add(session, [HumanMessage(text)])
        answers = (
            self._about(run, text, message_id or secrets.token_hex(12))
            if run
            else self._without_run(user_id, text, message_id or secrets.token_hex(12))
        )
        spoken: list[str] = []
        try:
            async for said in answers:
                if said.kind != "run":
                    spoken.append(said.text)
                yield said
        except RenterError as problem:
            spoken.append(str(problem))
            yield Said("error", str(problem))
        finally:
            if spoken:
                await self._remember(session, "\n".join(spoken))

    async def _remember(self, session: str, spoken: str) -> None:
        try:
            await self._transcripts.add(session, [AIMessage(spoken)])
        except RenterError as error:
            LOG.warning("%s: an answer is not in the transcript: %s", session[:80], error)

    async def _own_run(self, user_id: str, run_id: str) -> Run:
        """The user's run; one of somebody else is unknown to them."""
        run = await self._deps.ledger.runs.find(run_id)
        if run is None or run.user_id != user_id or run.phase == FETCH:
            raise NotFound(f"There is no run {run_id[:LONGEST_RUN_ID]!r}", "Check the runId")
        return run

    async def _without_run(self, user_id: str, text: str, message_id: str) -> AsyncIterator[Said]:
        """A goal, or a part of one; or a question about the user's newest run."""
        draft = await self._open_draft(user_id)
        intent = read_intent(text)
        utterance = Utterance(text, self._deps.now())
        if draft and (
            intent.wants is Wants.STOP
            or (intent.wants is Wants.STOP_PERHAPS and not _is_goal(intent, utterance))
        ):
            await self._drafts.forget(user_id)
            yield Said("action", "Forgotten. Tell me a new goal whenever you like.")
            return
        if intent.wants is Wants.RUNS:
            yield Said("words", (await list_runs(self._deps, user_id)).text)
            return
        if intent.wants is Wants.THANKS:
            yield Said("words", WELCOME)
            return
        if greets(text):
            yield Said("words", HELP) if draft else Said("question", ASK_FOR_JOB)
            return
        if not_yet(text):
            yield Said("question", NOT_STARTED)
            return
        question = only_asks(text) or (asks(text) and not _read(utterance).job_type)
        if question:
            gpu = _read(utterance).gpu_type
            if gpu and not asks_of_a_run(text) and intent.wants in (Wants.SPENT, Wants.OTHER):
                yield Said("words", await self._prices(gpu))
                return
            if draft or intent.wants is Wants.OTHER:
                yield Said("words", HELP)
                return
        if question or (
            not draft and intent.wants is not Wants.OTHER and not _is_goal(intent, utterance)
        ):
            async for said in self._about_newest(user_id, intent, message_id):
                yield said
            return
        wish = await understand(self._deps.reader, [*(draft.said if draft else ()), utterance])
        if isinstance(wish, Refusal):
            yield Said("question", str(wish))
            return
        draft = await self._drafts.add(draft, user_id, utterance, new_run_id())
        if isinstance(wish, str):
            yield Said("question", wish)
            return
        async for said in self._start(user_id, draft, wish):
            yield said

    async def _prices(self, gpu: str) -> str:
        """What the registered vendors ask for an hour of the GPU, the cheapest first."""
        vendors = [v for v in await self._deps.ledger.vendors.all() if gpu in v.gpu_types]
        if not vendors:
            return f"No registered vendor has {gpu}."
        listed = sorted(vendors, key=lambda v: (v.price_per_hour, v.vendor_id))
        prices = ", ".join(f"{v.price_per_hour} at {v.name}" for v in listed)
        return (
            f"An hour of {gpu} costs {prices}. To rent one, say what to run, for how long, and for "
            "how much at most."
        )

    async def _open_draft(self, user_id: str) -> Draft | None:
        """What was said of a goal so far; one whose run a crash left behind is done with."""
        draft = await self._drafts.find(user_id)
        if draft and await self._deps.ledger.runs.find(draft.run_id):
            await self._drafts.forget(user_id)
            return None
        return draft

    async def _start(self, user_id: str, draft: Draft, wish: Wish) -> AsyncIterator[Said]:
        run = await begin(self._deps, draft.run_id, user_id, wish)
        await self._drafts.forget(user_id)
        yield Said("run", f"Run {run.id}", {"runId": run.id})
        if run.spec is not None:
            by_memory = wish.heard.reading.by_memory
            sentence = understood(run.spec, run.budget_total, by_memory)
            yield Said("words", f"Understood: {named(sentence, await vendor_names(self._deps))}.")
        yield Said(
            "action",
            f"Started run {run.id} with {run.budget_total}. A worker takes it on; where none runs, "
            'say "go on" and I take a step.',
            {"runId": run.id, "action": "started"},
        )

    async def _about_newest(
        self, user_id: str, intent: Intent, message_id: str
    ) -> AsyncIterator[Said]:
        """About the newest run, where the message names none. Only questions: a change needs to
        be told which run it is for, unless a single one is running.
        """
        runs = [r for r in await self._deps.ledger.runs.recent(user_id=user_id, limit=20)
                if r.phase != FETCH]  # fmt: skip
        running = [r for r in runs if not r.status.ended]
        if not runs:
            yield Said("question", ASK_FOR_JOB)
        elif intent.wants not in QUESTIONS and len(running) != 1:
            ids = ", ".join(r.id for r in running) or "none is running"
            yield Said("question", f"Which run do you mean? Send its runId: {ids}")
        else:
            run = (running or runs)[0] if intent.wants in QUESTIONS else running[0]
            async for said in self._do(run, intent, message_id):
                yield said

    async def _about(self, run: Run, text: str, message_id: str) -> AsyncIterator[Said]:
        intent = read_intent(text)
        if intent.wants is Wants.OTHER:
            session = session_of(run.user_id, run.id)
            before = await self._transcripts.last(session, MOST_SHOWN + 1)
            asked = await self._deps.reader.wants(text, before[:-1])
            if asked.used.calls:
                await self._deps.ledger.runs.count_model(run.id, asked.used)
            intent = Intent(asked.wants)
        async for said in self._do(run, intent, message_id):
            yield said

    async def _do(self, run: Run, intent: Intent, message_id: str) -> AsyncIterator[Said]:
        yield Said("run", f"Run {run.id}", {"runId": run.id})
        if intent.wants is Wants.OTHER:
            yield Said("words", HELP)
        elif intent.wants is Wants.GO_ON:
            yield await self._tick(run)
        else:
            answer = await reply(self._deps, run, intent, message_id)
            yield Said(answer.kind, answer.text, answer.data)
            if intent.wants is Wants.STOP:
                yield await self._tick(run)

    async def _tick(self, run: Run) -> Said:
        """One step, and its message."""
        try:
            ticked = await Ticker(self._services).tick(run.id)
        except LeaseHeld:
            return Said("action", "I am at work on it already: this step does it, or the next.")
        message = named(ticked.message, await vendor_names(self._deps))
        return Said("action", message, {"status": ticked.status.value})


def _is_goal(intent: Intent, utterance: Utterance) -> bool:
    """Whether what could be a question says something of a job all the same."""
    if intent.wants not in QUESTIONS:
        return False
    return _read(utterance) != Reading()


def _read(utterance: Utterance) -> Reading:
    """What the rules read in it; of what cannot be used, that there is something."""
    try:
        return read_said([utterance])
    except InvalidInput:
        return Reading(job_type=DEFAULT_JOB)


def check_message(message: str) -> str:
    """The message, stripped and bounded. Raises InvalidInput naming `message`."""
    try:
        return check_goal(message)
    except InvalidInput as problem:
        what = problem.message.removeprefix("goal: ")
        raise InvalidInput(
            "message", what, f"Say something, in 1 to {LONGEST_GOAL:,} characters"
        ) from None
