"""tools: answer the look-ups that the planner's model asked for."""

from __future__ import annotations

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.types import Command
from pydantic import ValidationError

from domain.errors import RenterError
from graph.deps import Desk
from graph.routing import Phase, go
from graph.state import AgentState
from tools.lookup import lookup_tools


async def tools(state: AgentState, desk: Desk) -> Command[str]:
    known = {tool.name: tool for tool in lookup_tools(desk.deps, desk.run)}
    asked = [m for m in state.get("planning") or [] if isinstance(m, AIMessage)]
    answers: list[AnyMessage] = []
    for call in asked[-1].tool_calls if asked else ():
        try:
            content = str(await known[call["name"]].ainvoke(call["args"]))
        except (RenterError, ValidationError) as error:
            content = f"error: {type(error).__name__}: {str(error)[:300]}"
        answers.append(ToolMessage(content=content, tool_call_id=call["id"], name=call["name"]))
    return go(Phase.CHOOSE_VENDOR, planning=answers)
