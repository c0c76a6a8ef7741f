"""Talking with the agent: a goal becomes a run, and a run answers for itself.

Facts and numbers come from the ledger. A model, where there is one, reads goals and tells which
question was asked; what moves money or ends a run is read by rules from the owner's own words.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Final

from langchain_core.messages import AIMessage, HumanMessage

from domain.errors import InvalidInput, LeaseHeld, NotFound, RenterError
from domain.goals import LONGEST_GOAL, check_goal
from domain.ids import LONGEST_RUN_ID, new_token
from domain.intents import Intent, Wants
from domain.names import named
from domain.phrasing import asks, asks_price
from domain.utterance import Utterance
from graph.goals.goal_request import says_start_anyway
from graph.goals.reader import MOST_SHOWN
from graph.persistence.transcripts import Transcripts, session_of
from graph.planner.meter import MeteredReader, TokenMeter
from ledger.run import Run
from server.chat.answers import ELSEWHERE, HELP, reply
from server.chat.goals import GoalTalk, is_new_goal, read_words
from server.chat.market import prices
from server.chat.replies import Said, vendor_names
from server.runner.tick import Ticker
from server.wiring import Services

LOG: Final = logging.getLogger(__name__)
ASKS_APPROVAL: Final = "asksApproval"
"""Marks an answer in the transcript that told of a payment waiting for a yes or no."""


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
        heard = Utterance(check_message(message), self._deps.now())
        run = await self._own_run(user_id, run_id) if run_id else None
        goals = GoalTalk(self._deps, session_of(user_id, None, talk_id), user_id, self._do)
        if run and await self._begins_again(run, heard, goals):
            run = None
        session = session_of(user_id, run.id if run else None, talk_id)
        await self._transcripts.add(session, [HumanMessage(heard.text)])
        known_as = message_id or new_token()
        answers = self._about(run, heard, known_as) if run else goals.answer(heard, known_as)
        spoken: list[str] = []
        asks_approval = False
        try:
            async for said in answers:
                if said.kind != "run":
                    spoken.append(said.text)
                    asks_approval |= said.asks_approval
                yield said
        except RenterError as problem:
            spoken.append(str(problem))
            yield Said(str(problem), "error")
        finally:
            if spoken:
                await self._remember(session, "\n".join(spoken), asks_approval)

    async def _remember(self, session: str, spoken: str, asks_approval: bool) -> None:
        answer = AIMessage(spoken, additional_kwargs={ASKS_APPROVAL: asks_approval})
        try:
            await self._transcripts.add(session, [answer])
        except RenterError as error:
            LOG.warning("%s: an answer is not in the transcript: %s", session[:80], error)

    async def _own_run(self, user_id: str, run_id: str) -> Run:
        """The user's run; one of somebody else is unknown to them."""
        run = await self._deps.ledger.runs.find(run_id)
        if run is None or run.user_id != user_id:
            raise NotFound(f"There is no run {run_id[:LONGEST_RUN_ID]!r}", "Check the runId")
        return run

    async def _begins_again(self, run: Run, heard: Utterance, goals: GoalTalk) -> bool:
        """Whether what is said of a run that has ended is a goal for a new one, or the rest of one
        that was begun since.
        """
        if not run.status.ended:
            return False
        if is_new_goal(heard):
            return True
        wants = heard.intent.wants
        if says_start_anyway(heard.text) or wants is Wants.NO:
            return await goals.waits_for_a_yes()
        if wants is not Wants.OTHER or asks(heard.text):
            return False
        return read_words(heard).gpu_type is not None or await goals.begun()

    async def _about(self, run: Run, heard: Utterance, message_id: str) -> AsyncIterator[Said]:
        intent = heard.intent
        session = session_of(run.user_id, run.id)
        asked = read_words(heard)
        priced = asked.gpu_type is not None and asks_price(heard.text)
        if priced or is_new_goal(heard):
            yield Said(f"Run {run.id}", "run", {"runId": run.id})
            if priced:
                yield await prices(self._deps, asked)
            else:
                yield Said(ELSEWHERE.format(run.id), "question")
            return
        if intent.wants is Wants.NO and await self._asked_to_pay(session):
            intent = Intent(Wants.REJECT)
        if intent.wants is Wants.OTHER:
            before = await self._transcripts.last(session, MOST_SHOWN + 1)
            meter = TokenMeter(self._deps, run.user_id, run.id)
            reader = MeteredReader(self._deps.reader, meter)
            told = await reader.wants(heard, before[:-1])
            if reader.by_rules_alone:
                yield Said(reader.by_rules_alone)
            if told.used.calls:
                await self._deps.ledger.runs.count_model(run.id, told.used)
            intent = Intent(told.wants)
        async for said in self._do(run, intent, message_id):
            yield said

    async def _asked_to_pay(self, session: str) -> bool:
        """Whether the agent's last words were about a payment that waits: no is no to that one."""
        before = await self._transcripts.last(session, 2)
        return bool(before and before[0].additional_kwargs.get(ASKS_APPROVAL))

    async def _do(self, run: Run, intent: Intent, message_id: str) -> AsyncIterator[Said]:
        yield Said(f"Run {run.id}", "run", {"runId": run.id})
        if intent.wants is Wants.OTHER:
            yield Said(HELP)
        elif intent.wants is Wants.GO_ON:
            yield await self._tick(run)
        else:
            yield await reply(self._deps, run, intent, message_id)
            if intent.wants is Wants.STOP:
                yield await self._tick(run)

    async def _tick(self, run: Run) -> Said:
        """One step, and its message."""
        try:
            ticked = await Ticker(self._services).tick(run.id)
        except LeaseHeld as held:
            if held.goes_on_in_s is not None:
                return Said(str(held), "action")
            return Said("I am at work on it already: this step does it, or the next.", "action")
        message = named(ticked.message, await vendor_names(self._deps))
        return Said(message, "action", {"status": ticked.status.value}, ticked.waiting)


def check_message(message: str) -> str:
    """The message, stripped and bounded. Raises InvalidInput naming `message`."""
    try:
        return check_goal(message)
    except InvalidInput as problem:
        remedy = f"Say something, in 1 to {LONGEST_GOAL:,} characters"
        raise InvalidInput("message", problem.problem, remedy) from None
