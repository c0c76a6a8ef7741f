"""What a model's calls used, and what that cost by the owner's price list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from domain.mapping import Mapped
from domain.money import Usd

PER_PRICE: Final = 1_000_000
"""Prices are for a million tokens, as the model's vendors list them."""


@dataclass(frozen=True, slots=True)
class ModelUse(Mapped):
    """Model calls, their tokens, and their cost; the cost is None where no price is known."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: Usd | None = None

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def __add__(self, other: ModelUse) -> ModelUse:
        costs = [use.cost for use in (self, other) if use.cost is not None]
        return ModelUse(
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            sum(costs[1:], start=costs[0]) if costs else None,
        )


UNUSED: Final = ModelUse()


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """The most tokens that model calls may take: for one run, and for one user in a day (UTC)."""

    a_run: int = 400_000
    a_user_day: int = 4_000_000


class Meter(Protocol):
    """Counts model calls against limits."""

    async def begin(self, tokens: int) -> str:
        """Count a call that may use so many tokens. Why it must not be made; empty where it may."""

    async def end(self, tokens: int, use: ModelUse) -> None:
        """Count what a call used, in place of the `tokens` that it began with."""


class Unmetered:
    """No limit."""

    async def begin(self, tokens: int) -> str:  # noqa: ARG002
        return ""

    async def end(self, tokens: int, use: ModelUse) -> None:
        """Nothing is counted."""


UNMETERED: Final = Unmetered()


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """Dollars for a million tokens that a model reads, and that it writes."""

    tokens_in: Usd
    tokens_out: Usd

    def cost(self, tokens_in: int, tokens_out: int) -> Usd:
        """Rounded up to a micro-dollar."""
        return self.tokens_in.scaled(tokens_in, PER_PRICE) + self.tokens_out.scaled(
            tokens_out, PER_PRICE
        )
