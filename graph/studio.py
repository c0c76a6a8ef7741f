"""LangGraph Studio's entry points: `graph` and `checkpointer`, as langgraph.json names them.

    START → desk → agent → answer → END      the product's own graph is the node `agent`

In Studio nobody runs ticks, so each run of a thread is one tick. `desk` makes the agent's run out
of the thread's input (its id is the thread's), or asks back; `answer` says the tick's message in
the chat. Each node of the agent takes the run's lease for itself.

The settings are those of the environment and `.env`; MongoDB, the chain and the vendor that they
leave out are those that `gpu-renter serve` runs on the same DATA_DIR.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.mongodb import MongoDBSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from domain.errors import ConfigError, InvalidInput
from domain.goals import check_goal, read_goal
from domain.money import Usd
from graph.build import build_graph
from graph.checkpoints import Checkpoints
from graph.deps import Desk
from graph.running import completion, read_services
from graph.settings import Settings
from graph.state import AgentState
from graph.wiring import Services, now, open_services
from ledger.store import Store

STUDIO_USER: Final = "studio"
MOST_MESSAGES: Final = 30
"""Of a chat, kept in the state; the journal has it all."""
ASK_FOR_BUDGET: Final = (
    "I can do that. How much may I spend on it at most? Tell me an amount, like $5."
)
ASK_FOR_GOAL: Final = (
    "What shall I run, and for how much at most? For example: "
    "Fine-tune a 7B model on an A100 for 2 hours, under $5."
)

_AMOUNT: Final = re.compile(
    r"\$\s?\d[\d,]*(?:\.\d+)?|\b\d[\d,]*(?:\.\d+)?\s?(?:usdc|usd|dollars?)\b", re.I
)


class Office:
    """The services of this process, opened when the first node needs them."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._services: Services | None = None
        self._stack = AsyncExitStack()

    async def services(self) -> Services:
        async with self._opening:
            if self._services is None:
                settings = await asyncio.to_thread(studio_settings)
                self._services = await self._stack.enter_async_context(open_services(settings))
            return self._services

    @asynccontextmanager
    async def desk(
        self,
        state: AgentState,
        config: RunnableConfig,  # noqa: ARG002 -- part of OpenDesk
        desk: Desk | None,
    ) -> AsyncIterator[Desk]:
        """A desk for one node, under a lease of its own. Raises LeaseHeld."""
        deps = (await self.services()).deps
        run, lease = await deps.ledger.runs.acquire(
            state["run_id"], deps.now(), deps.limits.lease_seconds
        )
        desk = Desk(deps, run, lease)
        try:
            yield desk
        finally:
            released = deps.ledger.runs.release(lease, deps.now(), desk.journal_fields())
            await asyncio.shield(released)

    async def open_run(self, state: AgentState, config: RunnableConfig) -> Command[str]:
        """Find the thread's run, or make it from the input, or ask for what is missing."""
        run_id = str(config["configurable"]["thread_id"])
        deps = (await self.services()).deps
        run = await deps.ledger.runs.find(run_id)
        if run is None:
            wish = _wish(state)
            if isinstance(wish, str):
                return Command(goto=END, update={"messages": [AIMessage(wish)], "message": wish})
            goal, budget = wish
            user_id = state.get("user_id") or STUDIO_USER
            await deps.ledger.runs.create(run_id, user_id, goal, budget, now())
        elif run.status.ended:
            said = f"Run already {run.status}. Open a new thread for another run."
            return Command(goto=END, update={"messages": [AIMessage(said)], "message": said})
        cancel = bool(run and run.cancel_requested)
        return Command(goto="agent", update={"run_id": run_id, "cancel": cancel})


async def answer(state: AgentState) -> dict[str, Any]:
    """Say the tick's message in the chat; forget what was said long ago."""
    old = state["messages"][: -MOST_MESSAGES + 1]
    forgotten = [RemoveMessage(id=message.id) for message in old if message.id]
    return {"messages": [*forgotten, AIMessage(state["message"])]}


def studio_settings() -> Settings:
    """The settings, completed with what `gpu-renter serve` runs on this DATA_DIR.

    Raises ConfigError when something is neither set nor running.
    """
    settings = Settings.load()
    running = read_services(settings.data_dir)
    needed = [
        *(["mongodb"] if settings.needs_mongo else []),
        *(["chain", "vendor"] if settings.needs_chain else []),
    ]
    found = {name: running[name] for name in needed if name in running}
    settings = settings.completed(**completion(found))
    missing = "MONGODB_URI" if settings.needs_mongo else "RPC_URL" if settings.needs_chain else ""
    if missing:
        raise ConfigError(
            missing, "it is not set, and no local stack runs", "Set it, or run: gpu-renter serve"
        )
    return settings


@asynccontextmanager
async def checkpointer() -> AsyncIterator[MongoDBSaver]:
    """Studio's threads, in the same MongoDB as everything else."""
    settings = await asyncio.to_thread(studio_settings)
    assert settings.mongodb_uri is not None
    uri, database = settings.mongodb_uri.get_secret_value(), settings.mongodb_db_name
    store = Store.open(uri, database)
    checkpoints = await Checkpoints.open(uri, database, store)
    try:
        yield checkpoints.saver
    finally:
        checkpoints.close()
        await store.close()


def _wish(state: AgentState) -> tuple[str, Usd] | str:
    """The goal and the budget, from the input's fields or from the chat; else a question."""
    said = _said(state.get("messages") or [])
    written = state.get("budget") or next((a for a in map(_amount, reversed(said)) if a), "")
    goal = state.get("goal") or " ".join(text for text in said if not _is_amount(text))
    if not goal.strip():
        return ASK_FOR_GOAL
    if not written:
        return ASK_FOR_BUDGET
    try:
        budget = Usd.parse(written, "budget")
        goal = check_goal(goal)
        read_goal(goal)
    except InvalidInput as problem:
        return f"I cannot use that: {problem}"
    return (goal, budget) if budget else "A budget of $0 buys nothing. How much may I spend?"


def _said(messages: Sequence[AnyMessage]) -> list[str]:
    return [str(message.text) for message in messages if isinstance(message, HumanMessage)]


def _amount(text: str) -> str:
    """The amount of money in a message, or a message that is nothing but an amount."""
    found = _AMOUNT.search(text)
    return found[0] if found else text.strip() if _is_amount(text) else ""


def _is_amount(text: str) -> bool:
    try:
        Usd.parse(text)
    except InvalidInput:
        return False
    return True


def _build(office: Office) -> Any:
    builder = StateGraph(AgentState)
    builder.add_node("desk", office.open_run, destinations=("agent", END))
    builder.add_node("agent", build_graph(office.desk, None))
    builder.add_node("answer", answer)
    builder.add_edge(START, "desk")
    builder.add_edge("agent", "answer")
    builder.add_edge("answer", END)
    return builder.compile(name="agent")


graph = _build(Office())
