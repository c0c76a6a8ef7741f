"""The window of a conversation that a checkpoint keeps. The transcript has all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages

MOST_MESSAGES: Final = 30
MOST_BYTES: Final = 12_000
"""Of all texts together: the state is written whole at every step."""


def window(left: Any, right: Any) -> list[AnyMessage]:
    """The reducer of `messages`: add as LangGraph does, then keep the newest that fit."""
    return trimmed(add_messages(left, right))  # type: ignore[arg-type]


def trimmed(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The newest messages within the bounds; one that is too long by itself is cut."""
    kept: list[AnyMessage] = []
    room = MOST_BYTES
    for message in reversed(messages[-MOST_MESSAGES:]):
        text = str(message.text)
        size = len(text.encode("utf-8", "replace"))
        if not isinstance(message.content, str) or size > room:
            if kept:
                break
            cut = text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
            message = message.model_copy(update={"content": cut})
        kept.append(message)
        room -= size
    return kept[::-1]
