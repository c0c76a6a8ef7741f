"""The graph, put together.

START → (route on phase) → intake → assess_budget → choose_vendor ⇄ tools → approve → pay → launch
                           monitor → recover

Where there is nothing more to do now, a node goes to END, which ends the tick.

Which node may go where is the table `_NODES`. Where a chat drives the graph (LangGraph's server), a
node stands before it that hears what was said, and one after it that answers: the same graph, with
the same threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from graph.context import TickContext
from graph.nodes.approve import approve
from graph.nodes.assess_budget import assess_budget
from graph.nodes.cancel import cancel
from graph.nodes.choose_vendor import choose_vendor
from graph.nodes.intake import intake
from graph.nodes.launch import launch
from graph.nodes.monitor import monitor
from graph.nodes.pay import pay
from graph.nodes.recover import recover
from graph.nodes.tools import tools
from graph.routing import Phase, rest, route
from graph.state import AgentState

Node = Callable[[AgentState, TickContext], Awaitable[Command[str]]]
OpenContext = Callable[
    [AgentState, RunnableConfig, TickContext | None], AbstractAsyncContextManager[TickContext]
]
"""Gives the context for one node: the tick's own, or one made for it where there is no tick."""

Graph = CompiledStateGraph[AgentState, TickContext, AgentState, AgentState]

_NODES: Final[dict[Phase, tuple[Node, tuple[Phase | str, ...]]]] = {
    Phase.INTAKE: (intake, (Phase.ASSESS_BUDGET,)),
    Phase.ASSESS_BUDGET: (
        assess_budget,
        (Phase.ASSESS_BUDGET, Phase.CHOOSE_VENDOR, Phase.LAUNCH, Phase.MONITOR, END),
    ),
    Phase.CHOOSE_VENDOR: (
        choose_vendor,
        (Phase.TOOLS, Phase.APPROVE, Phase.ASSESS_BUDGET, END),
    ),
    Phase.TOOLS: (tools, (Phase.CHOOSE_VENDOR,)),
    Phase.APPROVE: (approve, (Phase.APPROVE, Phase.PAY, Phase.ASSESS_BUDGET, END)),
    Phase.PAY: (
        pay,
        (Phase.APPROVE, Phase.LAUNCH, Phase.RECOVER, Phase.ASSESS_BUDGET, Phase.MONITOR, END),
    ),
    Phase.LAUNCH: (
        launch,
        (Phase.LAUNCH, Phase.MONITOR, Phase.RECOVER, Phase.ASSESS_BUDGET, END),
    ),
    Phase.MONITOR: (monitor, (Phase.RECOVER, Phase.ASSESS_BUDGET, END)),
    Phase.RECOVER: (recover, (END,)),
    Phase.CANCEL: (cancel, (Phase.MONITOR, END)),
}
"""Each node, and where it may go."""


@dataclass(frozen=True, slots=True)
class ChatNodes:
    """The nodes before and after the graph where messages drive it."""

    hear: Callable[[AgentState, RunnableConfig], Awaitable[Command[str]]]
    """Takes a message; goes to the run's next node, or ends with an answer."""
    answer: Callable[[AgentState], Awaitable[dict[str, Any]]]
    input_schema: type[Any]


HEAR: Final = "hear"
ANSWER: Final = "answer"


def build_graph(
    open_context: OpenContext,
    checkpointer: BaseCheckpointSaver[Any] | None,
    chat: ChatNodes | None = None,
    **options: Any,
) -> Graph:
    """The compiled state machine. Invoke it with the run's id as `thread_id`.

    chat: the nodes that take messages as input; without them, each invocation is a tick.
    """
    given = {"input_schema": chat.input_schema} if chat else {"context_schema": TickContext}
    builder = StateGraph(AgentState, **given)
    end = ANSWER if chat else END
    for phase, (node, ends) in _NODES.items():
        builder.add_node(
            phase.value,
            _in_context(phase, node, open_context, end),
            destinations=tuple(end if to == END else str(to) for to in ends),
        )
    entries = [phase.value for phase in _NODES if phase is not Phase.TOOLS]
    if chat:
        hear: Any = chat.hear  # a union in LangGraph's types
        answer: Any = chat.answer
        builder.add_node(HEAR, hear, destinations=(*entries, END))
        builder.add_node(ANSWER, answer)
        builder.add_edge(START, HEAR)
        builder.add_edge(ANSWER, END)
    else:
        builder.add_conditional_edges(START, _entry, [*entries, END])
    return builder.compile(checkpointer=checkpointer, **options)


async def _entry(state: AgentState) -> str:
    """`route`, as a coroutine: LangGraph takes any other function to a thread and back."""
    return route(state)


def _in_context(
    phase: Phase, node: Node, open_context: OpenContext, end: str
) -> Callable[..., Awaitable[Command[str]]]:
    """The node as LangGraph calls it: it writes its notes before its checkpoint.

    end: where a node goes that ends the tick. A node that outlived its lease writes neither,
    because another tick has the run. A run that has ended takes no further step, from whichever
    state.
    """

    async def step(
        state: AgentState, config: RunnableConfig, runtime: Runtime[TickContext | None]
    ) -> Command[str]:
        async with open_context(state, config, runtime.context) as context:
            with context.deps.observer.step("node", phase.value):
                if context.run.status.ended:
                    command = rest(Phase.ENDED, f"Run already {context.run.status}")
                else:
                    command = await node(state, context)
                context.job_as_read = None
                context.check_lease()
                await context.flush()
                return replace(command, goto=end) if command.goto == END else command

    return step
