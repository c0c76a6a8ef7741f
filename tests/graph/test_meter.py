"""The model's tokens: of a run, and of a user's day over all runs and chats."""

from __future__ import annotations

import asyncio
from typing import Any

from domain.ids import user_day
from domain.money import Usd
from domain.tokens import ModelUse, TokenLimits
from domain.utterance import Utterance
from graph.goals.reader import ModelReader
from graph.planner.meter import MeteredReader, TokenMeter
from ledger.ledger import Ledger
from tests.support.builders import NOON, at, open_ledger
from tests.support.stack import FreshDatabase

GOAL = [Utterance("Fine-tune on an A100 for 2 hours, under $5", NOON)]


class Services:
    def __init__(self, ledger: Ledger, tokens: TokenLimits) -> None:
        self.ledger = ledger
        self.tokens = tokens
        self.now = at(NOON)


async def test_calls_at_once_never_take_more_than_the_users_day_holds(
    database: FreshDatabase,
) -> None:
    async with open_ledger(database) as ledger:
        services = Services(ledger, TokenLimits(a_user_day=5_000))
        meters = [TokenMeter(services, "ann") for _ in range(8)]
        refused = await asyncio.gather(*(meter.begin(1_000) for meter in meters))
        assert sum(not why for why in refused) == 5
        assert all("FIREWORKS_TOKENS_PER_USER_DAY" in why for why in refused if why)
        assert not await TokenMeter(services, "bob").begin(1_000)
        first = next(m for m, why in zip(meters, refused, strict=True) if not why)
        await first.end(1_000, ModelUse(1, 150, 50))
        assert await ledger.tokens.used(user_day("ann", NOON)) == 4_200


async def test_a_chats_calls_count_against_its_run(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        services = Services(ledger, TokenLimits(a_run=2_000))
        await ledger.runs.create(
            "run_1", "ann", "Train", Usd.parse(5), NOON, used=ModelUse(1, 900, 100)
        )
        meter = TokenMeter(services, "ann", "run_1")
        assert not await meter.begin(1_000)
        assert "FIREWORKS_TOKENS_PER_RUN" in await meter.begin(1_001)
        talk = TokenMeter(services, "ann", before=1_500)
        assert "FIREWORKS_TOKENS_PER_RUN" in await talk.begin(1_000)


async def test_beyond_the_limit_rules_read_alone_and_say_so(database: FreshDatabase) -> None:
    async with open_ledger(database) as ledger:
        services = Services(ledger, TokenLimits(a_user_day=10))
        never_asked: Any = object()
        reader = MeteredReader(ModelReader(never_asked, "a model"), TokenMeter(services, "ann"))
        heard = await reader.read(GOAL)
        assert (heard.reading.gpu_type, heard.reader, heard.used.calls) == ("A100", "rules", 0)
        assert "FIREWORKS_TOKENS_PER_USER_DAY" in heard.fallback
        assert "by rules alone" in reader.by_rules_alone
