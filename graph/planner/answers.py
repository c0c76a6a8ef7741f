"""Reading a model's answer: what it called, cleaned and bounded before anything keeps it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field

from domain.tokens import ModelUse, TokenPrices
from tools.wire.untrusted import Unreadable, clean_text

LONGEST_REASON: Final = 300
LONGEST_NAME: Final = 40
LONGEST_ARGUMENT: Final = 100
MOST_ARGUMENTS: Final = 8
MOST_CALLS: Final = 4
"""The most tool calls in one answer."""
MOST_COUNTED: Final = 10_000_000
"""The most tokens that one call is believed to have used, whatever the server says."""
BYTES_PER_TOKEN: Final = 2
"""For estimates of tokens; plain text and JSON have three to four."""


class rent(BaseModel):
    """Rent what one quote offers. The price and the address to pay are known already."""

    vendor_id: str = Field(description="vendorId of the chosen offer")
    quote_id: str = Field(description="quoteId of the chosen offer")
    reason: str = Field(description="one sentence: why this offer")


class wait(BaseModel):
    """Rent nothing now, and look again later."""

    reason: str = Field(description="one sentence: what to wait for")


class abort(BaseModel):
    """Give the run up, because no offer can reach its goal within the budget."""

    reason: str = Field(description="one sentence: why it cannot be reached")


DECISIONS: Final = (rent, wait, abort)
NAMES: Final = frozenset(decision.__name__ for decision in DECISIONS)


class Unusable(Exception):
    """The model's answer cannot be followed. The text says why, in words of ours."""


def tidy(answer: object, turn: int) -> AIMessage:
    """The calls of a model's answer, and nothing else of it; each with an id of its own.

    turn: how many answers came before. Raises Unusable for an answer that calls nothing, and for
    one of which a part cannot be read: then the rest is not to be trusted either.
    """
    if not isinstance(answer, AIMessage):
        raise Unusable("its answer is no message of the model")
    if answer.response_metadata.get("finish_reason") == "content_filter":
        raise Unusable("its answer was filtered")
    if answer.invalid_tool_calls:
        raise Unusable("no decision: its call is malformed")
    if not answer.tool_calls:
        words = "only words" if answer.text.strip() else "an empty answer"
        raise Unusable(f"no decision: {words}")
    if len(answer.tool_calls) > MOST_CALLS:
        raise Unusable(f"it called more than {MOST_CALLS} tools at once")
    called = [
        {
            "name": clean_text(call["name"], LONGEST_NAME),
            "args": _plain(call["args"]),
            "id": f"call_{turn}_{index}",
        }
        for index, call in enumerate(answer.tool_calls)
    ]
    return AIMessage(content="", tool_calls=called)


def _plain(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as short, harmless primitives."""
    return {
        clean_text(name, LONGEST_NAME): _primitive(value, LONGEST_REASON if name == "reason" else 0)
        for name, value in list(args.items())[:MOST_ARGUMENTS]
    }


def _primitive(value: object, longest: int) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return clean_text(str(value), longest or LONGEST_ARGUMENT)


def estimated(messages: Sequence[AnyMessage], tools: Sequence[BaseTool | type[BaseModel]]) -> int:
    """The tokens of a request, rather too many than too few."""
    size = sum(len(json.dumps(convert_to_openai_tool(tool))) for tool in tools)
    for message in messages:
        size += len(message.text.encode(errors="replace")) + 16
        if isinstance(message, AIMessage):
            size += len(json.dumps(message.tool_calls))
    return size // BYTES_PER_TOKEN


def used(answer: object, prompt: int, prices: TokenPrices | None) -> ModelUse:
    """What one call used: as the server counted, or as estimated where it did not.

    prompt: the estimated tokens of the request.
    """
    counted = answer.usage_metadata if isinstance(answer, AIMessage) else None
    tokens_in = _count(counted and counted["input_tokens"], prompt)
    written = len(str(getattr(answer, "content", ""))) + len(str(getattr(answer, "tool_calls", "")))
    tokens_out = _count(counted and counted["output_tokens"], written // BYTES_PER_TOKEN)
    cost = prices.cost(tokens_in, tokens_out) if prices else None
    return ModelUse(1, tokens_in, tokens_out, cost)


def _count(said: object, otherwise: int) -> int:
    believable = isinstance(said, int) and not isinstance(said, bool) and 0 < said <= MOST_COUNTED
    return said if isinstance(said, int) and believable else otherwise


def unread(error: BaseException) -> bool:
    """Whether a failed call used no tokens: refused with a status, or not connected."""
    if getattr(error, "status_code", None) is not None:
        return True
    return any(
        type(cause).__name__ in ("ConnectError", "ConnectTimeout") for cause in _chain(error)
    )


def words(error: BaseException) -> str:
    """Why a call failed, without the error's text, which may repeat a key."""
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "it took too long"
    for cause in _chain(error):
        if isinstance(cause, Unreadable):
            return str(cause)
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__} {status}" if isinstance(status, int) else type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


async def close(model: BaseChatModel) -> None:
    """Close the model's connections, where it has any."""
    closing = getattr(model, "aclose", None)
    if closing is not None:
        await closing()
    closing = getattr(model, "close", None)
    if closing is not None:
        closing()
