"""The graph, put together.

START → (route on phase) → intake → assess_budget → choose_vendor ⇄ tools → pay → launch → END
                                                    monitor → END | recover → END
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from graph.deps import Desk
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
from graph.routing import Phase, route
from graph.state import AgentState

Node = Callable[[AgentState, Desk], Awaitable[Command[str]]]
OpenDesk = Callable[[AgentState, RunnableConfig, Desk | None], AbstractAsyncContextManager[Desk]]
"""Gives the desk for one node: the tick's own, or one made for the node where there is no tick."""

Graph = CompiledStateGraph[AgentState, Desk, AgentState, AgentState]

_NODES: Final[dict[Phase, tuple[Node, tuple[Phase | str, ...]]]] = {
    Phase.INTAKE: (intake, (Phase.ASSESS_BUDGET,)),
    Phase.ASSESS_BUDGET: (
        assess_budget,
        (Phase.ASSESS_BUDGET, Phase.CHOOSE_VENDOR, Phase.LAUNCH, Phase.MONITOR, END),
    ),
    Phase.CHOOSE_VENDOR: (choose_vendor, (Phase.TOOLS, Phase.APPROVE, END)),
    Phase.TOOLS: (tools, (Phase.CHOOSE_VENDOR,)),
    Phase.APPROVE: (approve, (Phase.PAY, Phase.ASSESS_BUDGET, END)),
    Phase.PAY: (
        pay,
        (Phase.APPROVE, Phase.LAUNCH, Phase.RECOVER, Phase.ASSESS_BUDGET, Phase.MONITOR, END),
    ),
    Phase.LAUNCH: (launch, (Phase.LAUNCH, Phase.RECOVER, Phase.ASSESS_BUDGET, END)),
    Phase.MONITOR: (monitor, (Phase.RECOVER, Phase.ASSESS_BUDGET, END)),
    Phase.RECOVER: (recover, (END,)),
    Phase.CANCEL: (cancel, (Phase.MONITOR, END)),
}
"""Each node, and where it may go."""


def build_graph(open_desk: OpenDesk, checkpointer: BaseCheckpointSaver[Any] | None) -> Graph:
    """The compiled state machine. Invoke it with `thread_id` = the run's id."""
    builder = StateGraph(AgentState, context_schema=Desk)
    for phase, (node, ends) in _NODES.items():
        builder.add_node(
            phase.value, _at_desk(phase, node, open_desk), destinations=tuple(map(str, ends))
        )
    entries = [phase.value for phase in _NODES if phase is not Phase.TOOLS]
    builder.add_conditional_edges(START, _entry, [*entries, END])
    return builder.compile(checkpointer=checkpointer)


async def _entry(state: AgentState) -> str:
    """`route`, as a coroutine: LangGraph takes any other function to a thread and back."""
    return route(state)


def _at_desk(
    phase: Phase, node: Node, open_desk: OpenDesk
) -> Callable[..., Awaitable[Command[str]]]:
    """The node as LangGraph calls it. Its notes are written before its checkpoint is.

    A node that took longer than its lease writes neither: its run is another's now.
    """

    async def step(
        state: AgentState, config: RunnableConfig, runtime: Runtime[Desk | None]
    ) -> Command[str]:
        async with open_desk(state, config, runtime.context) as desk:
            with desk.deps.observer.step("node", phase.value):
                command = await node(state, desk)
                desk.job_as_read = None
                desk.check_lease()
                await desk.flush()
                return command

    return step
