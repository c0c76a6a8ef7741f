"""Who decides what to rent: the deterministic ranking, or a model that calls tools.

A decision is data, with ids only; price, payee, asset and address come from the code. Whatever a
model answers is checked against the offers, and where it does not stand, the ranking decides.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from domain.money import Usd
from domain.quotes import Offer
from domain.ranking import Abort, Decision, Rent, Wait, choose
from graph.prompts import opening

MOST_MODEL_CALLS: Final = 6
"""Per decision."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be decided."""

    goal: str
    offers: tuple[Offer, ...]
    left: Usd
    patience: bool
    """Whether waiting for better offers is still allowed."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision, who made it, and why another did not."""

    decision: Decision
    planner: str
    fallback: str = ""
    """Why the ranking had to step in for the model; empty when it did not."""
    facts: Mapping[str, Any] | None = None
    """Model calls, tools called and tokens, where a model was asked."""


@dataclass(frozen=True, slots=True)
class Consult:
    """The model wants to look something up first: new messages, the last with tool calls."""

    messages: tuple[AnyMessage, ...]


class Planner(Protocol):
    async def next(
        self,
        situation: Situation,
        conversation: Sequence[AnyMessage],
        tools: Sequence[BaseTool],
    ) -> Decided | Consult:
        """The next step towards a decision. Always ends in one; never raises for a model."""

    async def aclose(self) -> None:
        """Close what it holds open."""


class RankingPlanner:
    """PLANNER_MODE=stub."""

    async def next(
        self,
        situation: Situation,
        conversation: Sequence[AnyMessage],  # noqa: ARG002 -- the ranking needs no conversation
        tools: Sequence[BaseTool],  # noqa: ARG002
    ) -> Decided | Consult:
        return Decided(rank(situation), "ranking")

    async def aclose(self) -> None:
        """Nothing is open."""


def rank(situation: Situation) -> Decision:
    return choose(situation.offers, left=situation.left, patience=situation.patience)


class rent(BaseModel):
    """Rent what one quote offers. The price and the address to pay are known already."""

    vendor_id: str = Field(description="vendorId of the chosen offer")
    quote_id: str = Field(description="quoteId of the chosen offer")
    reason: str = Field(description="one sentence: why this offer", max_length=500)


class wait(BaseModel):
    """Rent nothing now, and look again later."""

    reason: str = Field(description="one sentence: what to wait for", max_length=500)


class abort(BaseModel):
    """Give the run up, because no offer can reach its goal within the budget."""

    reason: str = Field(description="one sentence: why it cannot be reached", max_length=500)


_DECISIONS: Final = (rent, wait, abort)
_NAMES: Final = frozenset(decision.__name__ for decision in _DECISIONS)


class ModelPlanner:
    """PLANNER_MODE=llm: a chat model bound to look-up tools and to the three decisions."""

    def __init__(self, model: BaseChatModel, name: str, timeout_s: float) -> None:
        self._model = model
        self._name = name
        self._timeout_s = timeout_s

    async def next(
        self,
        situation: Situation,
        conversation: Sequence[AnyMessage],
        tools: Sequence[BaseTool],
    ) -> Decided | Consult:
        start = [] if conversation else opening(situation.goal, situation.offers, situation.left)
        messages = [*conversation, *start]
        calls = sum(isinstance(message, AIMessage) for message in messages)
        if calls >= MOST_MODEL_CALLS:
            return self._fall_back(situation, messages, f"no decision after {calls} model calls")
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._bound(tools).ainvoke(messages)
        except Exception as error:  # noqa: BLE001 -- whatever a model does, a run goes on
            return self._fall_back(situation, messages, f"the model failed: {_kind(error)}")
        if not isinstance(answer, AIMessage):
            return self._fall_back(situation, messages, "the model's answer is no message")
        messages.append(answer)
        chosen = [call for call in answer.tool_calls if call["name"] in _NAMES]
        if len(chosen) == 1:
            return self._check(situation, messages, chosen[0]["name"], chosen[0]["args"])
        known = {tool.name for tool in tools}
        if not chosen and answer.tool_calls:
            if all(call["name"] in known for call in answer.tool_calls):
                return Consult((*start, answer))
            return self._fall_back(situation, messages, "the model called an unknown tool")
        problem = "several decisions at once" if chosen else "no decision in the model's answer"
        return self._fall_back(situation, messages, problem)

    async def aclose(self) -> None:
        """Close the model's connections, where it says how."""
        for name in ("aclose", "close"):
            close = getattr(self._model, name, None)
            closing = close() if callable(close) else None
            if inspect.isawaitable(closing):
                await closing

    def _bound(self, tools: Sequence[BaseTool]) -> Runnable[Any, Any]:
        return self._model.bind_tools([*tools, *_DECISIONS], tool_choice="any")

    def _check(
        self, situation: Situation, messages: list[AnyMessage], name: str, args: dict[str, Any]
    ) -> Decided:
        """The model's decision, if it stands up to the offers and the budget."""
        reason = str(args.get("reason", ""))[:500]
        decision: Decision
        match name:
            case "rent":
                wanted = (args.get("vendor_id"), args.get("quote_id"))
                quotes = {
                    (o.quote.vendor_id, o.quote.template_id): o.quote for o in situation.offers
                }
                quote = quotes.get((str(wanted[0]), str(wanted[1])))
                if quote is None:
                    return self._fall_back(situation, messages, "it chose an unknown quote")
                if not any(
                    o.quote == quote and o.projected <= situation.left for o in situation.offers
                ):
                    return self._fall_back(situation, messages, "its choice is over the budget")
                decision = Rent(quote, reason)
            case "wait":
                if not situation.patience:
                    return self._fall_back(situation, messages, "it wants to wait any longer")
                decision = Wait(reason)
            case _:
                if any(offer.projected <= situation.left for offer in situation.offers):
                    return self._fall_back(situation, messages, "it gave up with offers in reach")
                decision = Abort(reason)
        return Decided(decision, self._name, facts=_usage(messages))

    def _fall_back(self, situation: Situation, messages: Sequence[AnyMessage], why: str) -> Decided:
        return Decided(rank(situation), "ranking", fallback=why, facts=_usage(messages))


def _usage(messages: Sequence[AnyMessage]) -> dict[str, Any]:
    answers = [message for message in messages if isinstance(message, AIMessage)]
    return {
        "modelCalls": len(answers),
        "toolsCalled": [call["name"] for answer in answers for call in answer.tool_calls],
        "tokens": sum(
            answer.usage_metadata["total_tokens"] for answer in answers if answer.usage_metadata
        ),
    }


def _kind(error: Exception) -> str:
    """The error's type alone: its text may repeat a request, and with it a key."""
    return "it took too long" if isinstance(error, TimeoutError) else type(error).__name__
