"""What a model may still take: counted before each call, for its run and its user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from langchain_core.messages import BaseMessage

from domain.tokens import UNUSED, ModelUse, TokenLimits
from domain.utterance import Utterance
from graph.goals.reader import Asked, GoalReader, Heard
from ledger.ledger import Ledger


class Limited(Protocol):
    """What a meter needs of the services."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def now(self) -> Callable[[], datetime]: ...
    @property
    def tokens(self) -> TokenLimits: ...


@dataclass(slots=True)
class TokenMeter:
    """One run's calls of a model, or a conversation's that has no run yet.

    A call counts with all that it may take before it is made, and with what it took afterwards, so
    that a user's limit holds for any number of calls at once. One that a crash cuts off stays
    counted with the former until the day is over.
    """

    services: Limited
    user_id: str
    run_id: str | None = None
    before: int = 0
    """Tokens that the conversation has used without a run."""
    refused: str = ""
    """Why a call was not made, the last time that one was not."""
    _day: str = field(default="", init=False)

    async def begin(self, tokens: int) -> str:
        """Why a call that may take so many tokens is not to be made; empty where it is counted."""
        ledger, limits = self.services.ledger, self.services.tokens
        run = await ledger.runs.find(self.run_id) if self.run_id else None
        taken = self.before + (run.model.tokens if run else 0)
        if taken + tokens > limits.a_run:
            return self._refuse(f"the run's {limits.a_run:,} tokens", "FIREWORKS_TOKENS_PER_RUN")
        self._day = ledger.tokens.day(self.user_id, self.services.now())
        if not await ledger.tokens.hold(self._day, tokens, limits.a_user_day):
            what = f"the {limits.a_user_day:,} tokens that a user has in a day"
            return self._refuse(what, "FIREWORKS_TOKENS_PER_USER_DAY")
        return ""

    async def end(self, tokens: int, use: ModelUse) -> None:
        """Count what a call took that was begun with `tokens`."""
        await self.services.ledger.tokens.settle(self._day, tokens, use.tokens)

    def _refuse(self, what: str, setting: str) -> str:
        self.refused = f"{what} would not last for another call ({setting})"
        return self.refused


@dataclass(slots=True)
class MeteredReader:
    """A reader whose model is asked only as far as the meter allows; the rules read the rest."""

    reader: GoalReader
    meter: TokenMeter
    used: ModelUse = UNUSED
    """By all that was read through it."""

    async def read(self, said: Sequence[Utterance]) -> Heard:
        heard = await self.reader.read(said, self.meter)
        self.used += heard.used
        return heard

    async def wants(self, said: Utterance, before: Sequence[BaseMessage]) -> Asked:
        asked = await self.reader.wants(said, before, self.meter)
        self.used += asked.used
        return asked

    @property
    def by_rules_alone(self) -> str:
        """What to tell a person whose words no model has read for want of tokens; or nothing."""
        refused = self.meter.refused
        return f"I read this by rules alone, without the model: {refused}." if refused else ""
