"""Who decides what to rent: the deterministic ranking, or a model that calls tools.

A decision is data, with ids only; price, payee, asset and address come from the code. Whatever a
model answers is checked against the offers, and where it does not stand, the ranking decides.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import BaseTool

from domain.ranking import Decision
from domain.tokens import UNUSED, ModelUse, TokenPrices
from graph.planner.answers import DECISIONS, Unusable, close, estimated, tidy, unread, used, words
from graph.planner.prompts import opening
from graph.planner.situation import Situation as Situation
from graph.planner.situation import best_first, by_ranking, decision_of
from tools.wire.untrusted import clean_text

MOST_MODEL_CALLS: Final = 6
"""Per decision."""
LONGEST_ARGS: Final = 300
"""Characters of a tool call's arguments in the journal."""
ANSWER_TOKENS: Final = 2_000
"""Set aside for an answer when a call is begun."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision, who made it, and why another did not."""

    decision: Decision
    planner: str
    fallback: str = ""
    """Why the ranking had to step in for the model; empty when it did not."""
    facts: Mapping[str, Any] | None = None
    """Model calls, tools called and tokens, where a model was asked."""
    used: ModelUse = UNUSED
    """The last model call's use alone; each Consult carries that of the calls before."""


@dataclass(frozen=True, slots=True)
class Consult:
    """The model wants to look something up first: its new messages, the last with tool calls."""

    messages: tuple[AnyMessage, ...]
    used: ModelUse = UNUSED


class Planner(Protocol):
    looks_up: bool
    """Whether it calls tools; if not, nobody needs to make them."""

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
    """Decides by the ranking alone (PLANNER_MODE=stub)."""

    def __init__(self, instead: str = "") -> None:
        """instead: why it decides in place of a model, if it does."""
        self._instead = instead

    looks_up = False

    async def next(
        self,
        situation: Situation,
        conversation: Sequence[AnyMessage],  # noqa: ARG002 -- the ranking needs no conversation
        tools: Sequence[BaseTool],  # noqa: ARG002
    ) -> Decided | Consult:
        return Decided(by_ranking(situation), "ranking", fallback=self._instead)

    async def aclose(self) -> None:
        """Nothing is open."""


class ModelPlanner:
    """Decides by a chat model with look-up tools and three decisions (PLANNER_MODE=llm).

    A decision has MOST_MODEL_CALLS calls, `timeout_s` seconds and `tokens` tokens in all, a run
    `run_tokens`; beyond them, the ranking decides. What was used so far is in the conversation
    itself, and so outlives a crash.
    """

    looks_up = True

    def __init__(
        self,
        model: BaseChatModel,
        name: str,
        timeout_s: float,
        *,
        tokens: int = 40_000,
        run_tokens: int = 400_000,
        prices: TokenPrices | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._name = name
        self._timeout_s = timeout_s
        self._tokens = tokens
        self._run_tokens = run_tokens
        self._prices = prices
        self._clock = clock

    async def next(
        self,
        situation: Situation,
        conversation: Sequence[AnyMessage],
        tools: Sequence[BaseTool],
    ) -> Decided | Consult:
        if not situation.offers:
            return Decided(by_ranking(situation), "ranking", facts={"model": self._name})
        start = [] if conversation else self._opening(situation)
        messages = [*conversation, *start]
        answers = _answers(messages)
        seconds = self._timeout_s - sum(a.response_metadata["seconds"] for a in answers)
        prompt = estimated(messages, [*tools, *DECISIONS])
        stop = self._bound(situation, answers, prompt, seconds)
        if stop := stop or await situation.meter.begin(prompt + ANSWER_TOKENS):
            return self._fall_back(situation, answers, stop)
        begun = self._clock()
        try:
            async with asyncio.timeout(seconds):
                raw = await self._model.bind_tools([*tools, *DECISIONS], tool_choice="any").ainvoke(
                    messages
                )
        except Exception as error:  # noqa: BLE001 -- whatever a model does, a run goes on
            use = ModelUse(1) if unread(error) else used(None, prompt, self._prices)
            why = f"the model failed: {words(error)}"
            await situation.meter.end(prompt + ANSWER_TOKENS, use)
            return self._fall_back(situation, answers, why, use)
        use = used(raw, prompt, self._prices)
        await situation.meter.end(prompt + ANSWER_TOKENS, use)
        try:
            answer = tidy(raw, len(answers))
            answer.usage_metadata = {
                "input_tokens": use.tokens_in,
                "output_tokens": use.tokens_out,
                "total_tokens": use.tokens,
            }
            answer.response_metadata = {"seconds": self._clock() - begun}
            decision = decision_of(answer, situation, {tool.name for tool in tools}, answers)
        except Unusable as problem:
            return self._fall_back(situation, answers, str(problem), use)
        if decision is None:
            return Consult((*start, answer), use)
        facts = self._facts([*answers, answer], UNUSED)
        return Decided(decision, self._name, facts=facts, used=use)

    async def aclose(self) -> None:
        """Close the model's connections."""
        await close(self._model)

    def _opening(self, situation: Situation) -> list[AnyMessage]:
        able = best_first(situation)
        others = [offer for offer in situation.offers if offer not in able]
        return opening(situation.goal, [*able, *others], situation.left)

    def _bound(
        self, situation: Situation, answers: Sequence[AIMessage], prompt: int, seconds: float
    ) -> str:
        """Why the model is not asked any further; empty where it is."""
        spent = sum(_tokens(answer) for answer in answers)
        if len(answers) >= MOST_MODEL_CALLS:
            return f"no decision after {len(answers)} model calls"
        if seconds <= 0:
            return f"no decision within {self._timeout_s:g} s"
        if spent + prompt + ANSWER_TOKENS > self._tokens:
            return f"the decision's {self._tokens:,} tokens would not last for another call"
        if situation.model_tokens + prompt + ANSWER_TOKENS > self._run_tokens:
            return f"the run's {self._run_tokens:,} tokens would not last for another call"
        return ""

    def _fall_back(
        self,
        situation: Situation,
        answers: Sequence[AIMessage],
        why: str,
        use: ModelUse = UNUSED,
    ) -> Decided:
        facts = self._facts(answers, use)
        return Decided(by_ranking(situation), "ranking", fallback=why, facts=facts, used=use)

    def _facts(self, answers: Sequence[AIMessage], last: ModelUse) -> dict[str, Any]:
        """Calls and tokens for the journal. last: a call that gave no answer, if any."""
        calls = [call for answer in answers for call in answer.tool_calls]
        return {
            "model": self._name,
            "modelCalls": len(answers) + last.calls,
            "toolsCalled": [call["name"] for call in calls],
            "toolCalls": [{"name": call["name"], "args": _shown(call["args"])} for call in calls],
            "tokens": sum(_tokens(answer) for answer in answers) + last.tokens,
        }


def _answers(messages: Sequence[AnyMessage]) -> list[AIMessage]:
    return [message for message in messages if isinstance(message, AIMessage)]


def _shown(args: Mapping[str, Any]) -> str:
    """A call's arguments as one harmless, bounded line of JSON."""
    return clean_text(json.dumps(args, ensure_ascii=False, default=str), LONGEST_ARGS)


def _tokens(answer: AIMessage) -> int:
    return answer.usage_metadata["total_tokens"] if answer.usage_metadata else 0
