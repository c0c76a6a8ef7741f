"""Talking with the agent: a goal becomes a run, and a run answers for itself.

Facts and numbers come from the ledger. A model, where there is one, reads goals and tells which
question was asked; what moves money or ends a run is read by rules from the owner's own words.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from typing import Final

from langchain_core.messages import AIMessage, HumanMessage

from domain.errors import InvalidInput, LeaseHeld, NotFound, RenterError
from domain.goals import LONGEST_GOAL, check_goal
from domain.intents import Intent, Wants, read_intent
from domain.names import named
from domain.phrasing import asks, asks_price
from graph.goals.goal_request import says_start_anyway
from graph.goals.reader import MOST_SHOWN
from graph.persistence.transcripts import Transcripts, session_of
from graph.planner.meter import MeteredReader, TokenMeter
from ledger.drafts import Utterance
from ledger.run import Run
from ledger.spenders import LONGEST_RUN_ID
from server.chat.answers import ELSEWHERE, HELP, reply
from server.chat.goals import GoalTalk, is_new_goal, read_words
from server.chat.market import prices
from server.chat.replies import APPROVE_OR_REJECT, Said, vendor_names
from server.runner.tick import WAITING, Ticker
from server.wiring import Services

LOG: Final = logging.getLogger(__name__)


class Chat:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._deps = services.deps
        self._transcripts = Transcripts.beside(services.checkpoints.saver)

    async def say(
        self,
        user_id: str,
        message: str,
        run_id: str | None = None,
        message_id: str | None = None,
        *,
        talk_id: str = "",
    ) -> AsyncIterator[Said]:
        """What the agent answers, piece by piece, and what it does on the way.

        message_id: of this message; given again, it raises no budget again. talk_id: of this one
        of the user's conversations, where several people may speak as one user. Before the first
        piece: raises InvalidInput, NotFound for a run that is not this user's, and StoreDown.
        After it, a problem is the last piece, of kind `error`.
        """
        text = check_message(message)
        run = await self._own_run(user_id, run_id) if run_id else None
        goals = GoalTalk(self._deps, session_of(user_id, None, talk_id), user_id, self._do)
        if run and await self._begins_again(run, text, goals):
            run = None
        session = session_of(user_id, run.id if run else None, talk_id)
        await self._transcripts.add(session, [HumanMessage(text)])
        known_as = message_id or secrets.token_hex(12)
        answers = self._about(run, text, known_as) if run else goals.answer(text, known_as)
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
        if run is None or run.user_id != user_id:
            raise NotFound(f"There is no run {run_id[:LONGEST_RUN_ID]!r}", "Check the runId")
        return run

    async def _begins_again(self, run: Run, text: str, goals: GoalTalk) -> bool:
        """Whether what is said of a run that has ended is a goal for a new one, or the rest of one
        that was begun since.
        """
        if not run.status.ended:
            return False
        intent, utterance = read_intent(text), Utterance(text, self._deps.now())
        if is_new_goal(utterance, intent):
            return True
        if says_start_anyway(text) or intent.wants is Wants.NO:
            return await goals.waits_for_a_yes()
        if intent.wants is not Wants.OTHER or asks(text):
            return False
        return read_words(utterance).gpu_type is not None or await goals.begun()

    async def _about(self, run: Run, text: str, message_id: str) -> AsyncIterator[Said]:
        intent = read_intent(text)
        session = session_of(run.user_id, run.id)
        utterance = Utterance(text, self._deps.now())
        asked = read_words(utterance)
        priced = asked.gpu_type is not None and asks_price(text)
        if priced or is_new_goal(utterance, intent):
            yield Said("run", f"Run {run.id}", {"runId": run.id})
            if priced:
                yield Said("words", (await prices(self._deps, asked)).text)
            else:
                yield Said("question", ELSEWHERE.format(run.id))
            return
        if intent.wants is Wants.NO and await self._asked_to_pay(session):
            intent = Intent(Wants.REJECT)
        if intent.wants is Wants.OTHER:
            before = await self._transcripts.last(session, MOST_SHOWN + 1)
            meter = TokenMeter(self._deps, run.user_id, run.id)
            reader = MeteredReader(self._deps.reader, meter)
            told = await reader.wants(text, before[:-1])
            if reader.by_rules_alone:
                yield Said("words", reader.by_rules_alone)
            if told.used.calls:
                await self._deps.ledger.runs.count_model(run.id, told.used)
            intent = Intent(told.wants)
        async for said in self._do(run, intent, message_id):
            yield said

    async def _asked_to_pay(self, session: str) -> bool:
        """Whether the agent's last words were about a payment that waits: no is no to that one."""
        before = await self._transcripts.last(session, 2)
        last = str(before[0].text) if before and isinstance(before[0], AIMessage) else ""
        return WAITING in last or APPROVE_OR_REJECT in last

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
        except LeaseHeld as held:
            if held.goes_on_in_s is not None:
                return Said("action", str(held))
            return Said("action", "I am at work on it already: this step does it, or the next.")
        message = named(ticked.message, await vendor_names(self._deps))
        return Said("action", message, {"status": ticked.status.value})


def check_message(message: str) -> str:
    """The message, stripped and bounded. Raises InvalidInput naming `message`."""
    try:
        return check_goal(message)
    except InvalidInput as problem:
        what = problem.message.removeprefix("goal: ")
        raise InvalidInput(
            "message", what, f"Say something, in 1 to {LONGEST_GOAL:,} characters"
        ) from None
