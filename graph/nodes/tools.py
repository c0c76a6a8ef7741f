"""tools: answer the look-ups that the planner's model asked for."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command
from pydantic import ValidationError

from domain.errors import RenterError
from graph.context import TickContext
from graph.routing import Phase, go
from graph.state import AgentState
from tools.wire.untrusted import clean_text

LOOKUP_S: Final = 10.0
"""Seconds for one look-up; the next one may be quicker."""
MOST_TOLD: Final = 3_000
"""Characters of look-ups that one decision may be told."""
ENOUGH: Final = "error: there is no room for more, decide now"
LONGEST_ERROR: Final = 200


async def tools(state: AgentState, context: TickContext) -> Command[str]:
    known = {tool.name: tool for tool in context.deps.lookup_tools(context.run)}
    said = state.get("planning") or []
    told = sum(len(message.text) for message in said if isinstance(message, ToolMessage))
    asked = [message for message in said if isinstance(message, AIMessage)]
    answers: list[AnyMessage] = []
    for call in asked[-1].tool_calls if asked else ():
        content = await _look_up(known.get(call["name"]), call["args"])
        content = content if told + len(content) <= MOST_TOLD else ENOUGH
        told += len(content)
        answers.append(ToolMessage(content=content, tool_call_id=call["id"], name=call["name"]))
    return go(Phase.CHOOSE_VENDOR, planning=answers)


async def _look_up(tool: BaseTool | None, args: dict[str, Any]) -> str:
    """A tool's answer, or what was wrong: whatever fails here is the model's to know, no more."""
    if tool is None:
        return "error: there is no such tool"
    try:
        async with asyncio.timeout(LOOKUP_S):
            return str(await tool.ainvoke(args))
    except TimeoutError:
        return "error: it took too long"
    except (RenterError, ValidationError) as error:
        return f"error: {type(error).__name__}: {clean_text(str(error), LONGEST_ERROR)}"
