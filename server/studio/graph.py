"""The graph that LangGraph's server runs, and where it keeps its threads.

    START → hear → (route on phase) → the agent's own nodes → answer → END

It is the agent's graph (graph/build.py), with a node before it that hears what was said and one
after it that answers; a run's thread is the same, so `serve`, a worker and Studio go on with each
other's runs. In Studio nobody runs ticks, so each run of a thread is one tick. `hear` makes the
agent's run out of the thread's input (its id is the thread's), or asks back. Each node of the agent
takes the run's lease for itself.

The settings are those of the environment and `.env`; MongoDB, the chain and the vendor that they
leave out are those that `gpu-renter serve` runs on the same DATA_DIR.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.mongodb import MongoDBSaver
from langgraph.graph import END, MessagesState
from langgraph.types import Command

from domain.errors import NotFound, RenterError, TooManyRuns
from domain.goals import ASK_FOR_JOB
from domain.intents import Intent, Wants, read_intent
from domain.quotes import Vendor
from domain.utterance import Utterance
from graph.build import ChatNodes, build_graph
from graph.context import TickContext
from graph.deps import Deps
from graph.goals.goal_request import (
    AskAnyway,
    GoalRequest,
    begin,
    says_start_anyway,
    understand,
)
from graph.goals.reader import Reads
from graph.persistence.checkpoints import Checkpoints
from graph.persistence.transcripts import Transcripts, session_of
from graph.persistence.window import window
from graph.planner.meter import MeteredReader, TokenMeter
from graph.routing import route
from graph.state import AgentState
from ledger.run import Run
from ledger.store import Store
from server.chat.answers import reply
from server.local.running import settings_of_serve
from server.studio.door import OWNER, STUDIO_USER
from server.wiring import Services, open_services

FIRST_STEP: Final[dict[str, Any]] = {
    "phase": "",
    "decision": None,
    "payment_id": None,
    "accepted": None,
    "open_slot": None,
    "failure": None,
    "sends": 0,
    "stops": 0,
    "waits": 0,
}
"""The position at which a new run begins, whatever its thread's state holds."""
ASKS_ABOUT: Final = "asksAbout"
"""Marks the question whether to start all the same, with what a yes gives up."""
OVER: Final = "Run already {}. Open a new thread for another run."
TICKS: Final = (Wants.GO_ON, Wants.OTHER)
"""Messages that are no question about the run: each takes it one step further."""
MOVES: Final = (Wants.APPROVE, Wants.REJECT)
"""Messages that are answered and may let the run go on: each takes it one step further, too."""


class StudioInput(MessagesState, total=False):
    """All that a message to a thread may bring: none of it says where the run stands."""

    messages: Annotated[list[AnyMessage], window]  # type: ignore[misc]
    goal: str
    budget: str
    """Dollars."""


class Office:
    """The services of this process, opened when the first node needs them."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._services: Services | None = None
        self._stack = AsyncExitStack()

    async def services(self) -> Services:
        async with self._opening:
            if self._services is None:
                settings = await asyncio.to_thread(settings_of_serve)
                self._services = await self._stack.enter_async_context(open_services(settings))
            return self._services

    @asynccontextmanager
    async def context(
        self,
        state: AgentState,  # noqa: ARG002 -- part of OpenContext
        config: RunnableConfig,
        context: TickContext | None,
    ) -> AsyncIterator[TickContext]:
        """A context for one node, under a lease of its own. Raises LeaseHeld."""
        deps = (await self.services()).deps
        run, lease = await deps.ledger.runs.acquire(
            _run_id(config), deps.now, deps.limits.lease_seconds
        )
        context = TickContext(deps, run, lease)
        try:
            yield context
        finally:
            released = deps.ledger.runs.release(lease, deps.now(), context.last_fields())
            await asyncio.shield(released)

    async def hear(self, state: AgentState, config: RunnableConfig) -> Command[str]:
        """Find the thread's run, or make it from the chat, or ask for what is missing.

        A question about a run that there is, is answered from the ledger; so are its owner's words
        that change it. Anything else said to a running run is one tick.
        """
        run_id, owner = _run_id(config), _owner(config)
        deps = (await self.services()).deps
        run = await deps.ledger.runs.find(run_id)
        if run is not None and owner and run.user_id != owner:
            raise NotFound(f"There is no run {run_id}")
        position: dict[str, Any] = {}
        told: list[AIMessage] = []
        message = _last_said(state)
        if run is None:
            vendors = await deps.ledger.vendors.all()
            user_id = owner or STUDIO_USER
            reader = MeteredReader(deps.reader, TokenMeter(deps, user_id))
            request = await _request(reader, state, deps.now(), vendors)
            if isinstance(request, str):
                said = " ".join(part for part in (reader.by_rules_alone, request) if part)
                own = request.own if isinstance(request, AskAnyway) else ()
                return await self._answered(run_id, state, said, own)
            try:
                await begin(deps, run_id, user_id, request)
            except TooManyRuns as refused:
                return await self._answered(run_id, state, str(refused))
            position = FIRST_STEP
        elif message and (intent := read_intent(str(message.text))).wants not in TICKS:
            said = await self._reply(deps, run, intent, str(message.id or message.text))
            if run.status.ended or (said and intent.wants not in MOVES):
                return await self._answered(run_id, state, said or OVER.format(run.status))
            if said:
                told = await self._said(run_id, state, said)
        elif run.status.ended:
            return await self._answered(run_id, state, OVER.format(run.status))
        run = await deps.ledger.runs.get(run_id)
        position = {**position, "run_id": run_id, "cancel": bool(run.cancel_requested)}
        entry = route(AgentState(**{**state, **position}))  # type: ignore[typeddict-item]
        return Command(goto=entry, update={**position, "messages": told})

    async def _reply(self, deps: Deps, run: Run, intent: Intent, message_id: str) -> str:
        """The answer; empty where the next tick gives it."""
        try:
            said = await reply(deps, run, intent, message_id)
        except RenterError as problem:
            return str(problem)
        return "" if intent.wants is Wants.STOP else said.text

    async def answer(self, state: AgentState) -> dict[str, Any]:
        """Say the tick's message in the chat."""
        return {"messages": await self._said(state["run_id"], state, state["message"])}

    async def _answered(
        self, run_id: str, state: AgentState, said: str, asks_about: tuple[str, ...] = ()
    ) -> Command[str]:
        messages = await self._said(run_id, state, said, asks_about)
        return Command(goto=END, update={"messages": messages, "message": said})

    async def _said(
        self, run_id: str, state: AgentState, said: str, asks_about: tuple[str, ...] = ()
    ) -> list[AIMessage]:
        """The agent's words, which the transcript has after the person's."""
        marks = {ASKS_ABOUT: list(asks_about)} if asks_about else {}
        heard, answer = _last_said(state), AIMessage(said, additional_kwargs=marks)
        transcripts = Transcripts.beside((await self.services()).checkpoints.saver)
        await transcripts.add(session_of("", run_id), [*([heard] if heard else []), answer])
        return [answer]


@asynccontextmanager
async def checkpointer() -> AsyncIterator[MongoDBSaver]:
    """Studio's threads, in the same MongoDB as everything else."""
    settings = await asyncio.to_thread(settings_of_serve)
    assert settings.mongodb_uri is not None
    uri, database = settings.mongodb_uri.get_secret_value(), settings.mongodb_db_name
    store = Store.open(uri, database)
    checkpoints = await Checkpoints.open(uri, database, store, most_states=settings.run_states)
    try:
        yield checkpoints.saver
    finally:
        checkpoints.close()
        await store.close()


async def _request(
    reader: Reads, state: AgentState, at: datetime, vendors: Sequence[Vendor] | None = None
) -> GoalRequest | str:
    """The goal and the budget, from the chat and the input's fields; else a question.

    A thread's messages have no times: a deadline counts from now.
    """
    texts = [str(m.text) for m in state.get("messages") or [] if isinstance(m, HumanMessage)]
    if state.get("goal"):
        texts = [str(state["goal"])]
    if state.get("budget"):
        texts.append(_dollars(str(state["budget"])))
    texts = [text for text in texts if text.strip() and not says_start_anyway(text)]
    said = [Utterance(text, at) for text in texts]
    if not said:
        return ASK_FOR_JOB
    sure, accepted = bool(state.get("budget")), _asked_before_yes(state)
    return await understand(reader, said, vendors, sure=sure, accepted=accepted)


def _asked_before_yes(state: AgentState) -> tuple[str, ...]:
    """What the agent last asked to give up, where the last message is a yes; else nothing."""
    messages = state.get("messages") or []
    if len(messages) < 2 or not isinstance(messages[-2], AIMessage):
        return ()
    said_yes = isinstance(messages[-1], HumanMessage) and says_start_anyway(str(messages[-1].text))
    asked = messages[-2].additional_kwargs.get(ASKS_ABOUT) if said_yes else None
    return tuple(map(str, asked)) if isinstance(asked, list) else ()


def _dollars(written: str) -> str:
    """The budget field, which may be a bare number, as an answer to "How much?"."""
    return f"${written}" if written.strip()[:1].isdigit() else written


def _last_said(state: AgentState) -> HumanMessage | None:
    """The message that this invocation brought, if it brought one."""
    messages = state.get("messages") or []
    last = messages[-1] if messages else None
    return last if isinstance(last, HumanMessage) else None


def _run_id(config: RunnableConfig) -> str:
    """The run's id, which is its thread's; no input can name another."""
    return str(config["configurable"]["thread_id"])


def _owner(config: RunnableConfig) -> str:
    """The user that the caller's key speaks for; empty where it names nobody."""
    user = config["configurable"].get("langgraph_auth_user")
    return str(user[OWNER]) if user else ""


def build(office: Office, checkpointer: BaseCheckpointSaver[Any] | None = None) -> Any:
    """The compiled graph. LangGraph's server brings the checkpointer itself."""
    chat = ChatNodes(office.hear, office.answer, StudioInput)
    return build_graph(office.context, checkpointer, chat, name="agent")


graph = build(Office())
