"""The window of a conversation that a checkpoint keeps. The transcript has all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from langchain_core.messages import AnyMessage, BaseMessage, trim_messages
from langgraph.graph.message import add_messages

MOST_MESSAGES: Final = 30
MOST_BYTES: Final = 12_000
"""The most bytes of all texts together: every step writes the whole state."""


def window(left: Any, right: Any) -> list[AnyMessage]:
    """The reducer of `messages`: add as LangGraph does, then keep the newest that fit."""
    return trimmed(add_messages(left, right))  # type: ignore[arg-type]


def trimmed(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The newest messages within the bounds; one that is too long by itself is cut."""
    newest = list(messages[-MOST_MESSAGES:])
    kept = trim_messages(newest, max_tokens=MOST_BYTES, token_counter=_size_of_all, strategy="last")
    if newest and not kept:
        text = str(newest[-1].text).encode("utf-8", "replace")[:MOST_BYTES]
        kept = [newest[-1].model_copy(update={"content": text.decode("utf-8", "ignore")})]
    return cast("list[AnyMessage]", kept)


def _size_of_all(messages: Sequence[BaseMessage]) -> int:
    """In bytes. What is more than text is too long by itself: nothing bounds what stands beside."""
    return sum(
        len(m.content.encode("utf-8", "replace")) if isinstance(m.content, str) else MOST_BYTES + 1
        for m in messages
    )
