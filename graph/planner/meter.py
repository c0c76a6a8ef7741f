"""What a model may still take: counted before each call, for its run and its user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from langchain_core.messages import BaseMessage

from domain.ids import user_day
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
    """Counts one run's model calls, or a conversation's that has no run yet.

    A call counts with the most that it may use before it is made, and with what it used afterwards.
    So a user's limit holds for any number of calls at once. A call that a crash cuts off stays
    counted at its most until the day is over.
    """

    services: Limited
    user_id: str
    run_id: str | None = None
    before: int = 0
    """Tokens that the conversation used before it had a run."""
    refused: str = ""
    """Why the last refused call was not made."""
    _day: str = field(default="", init=False)

    async def begin(self, tokens: int) -> str:
        """Count a call that may use so many tokens. Why it must not be made; empty where it may."""
        ledger, limits = self.services.ledger, self.services.tokens
        run = await ledger.runs.find(self.run_id) if self.run_id else None
        taken = self.before + (run.model.tokens if run else 0)
        if taken + tokens > limits.a_run:
            return self._refuse(f"the run's {limits.a_run:,} tokens", "FIREWORKS_TOKENS_PER_RUN")
        self._day = user_day(self.user_id, self.services.now())
        if not await ledger.tokens.hold(self._day, tokens, limits.a_user_day):
            what = f"the {limits.a_user_day:,} tokens that a user has in a day"
            return self._refuse(what, "FIREWORKS_TOKENS_PER_USER_DAY")
        return ""

    async def end(self, tokens: int, use: ModelUse) -> None:
        """Count what a call used, in place of the `tokens` that it began with."""
        await self.services.ledger.tokens.settle(self._day, tokens, use.tokens)

    def _refuse(self, what: str, setting: str) -> str:
        self.refused = f"{what} would not last for another call ({setting})"
        return self.refused


@dataclass(slots=True)
class MeteredReader:
    """A reader that asks its model only as far as the meter allows; the rules read the rest."""

    reader: GoalReader
    meter: TokenMeter
    used: ModelUse = UNUSED
    """What all readings through it used."""

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
        """What to tell a person if no model read their words for want of tokens, or ""."""
        refused = self.meter.refused
        return f"I read this by rules alone, without the model: {refused}." if refused else ""
