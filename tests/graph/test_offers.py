"""The table of offers: who was asked, what came of it, and quotes that are asked for again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain.money import Usd
from domain.slices import SliceRule
from graph.context import TickContext
from graph.deps import Limits
from graph.nodes.choose_vendor import choose_vendor
from graph.nodes.intake import intake
from graph.nodes.pay import pay
from graph.routing import Phase
from graph.state import AgentState
from mock_vendor.vendor.settings import seeded_vendors, vendor_profile
from tests.support.builders import status_view
from tests.support.rewritten import Rewritten
from tests.support.stack import FreshDatabase
from tests.support.world import World, Wraps


async def test_every_vendor_that_can_do_the_job_is_in_the_status_with_why_it_was_not_taken(
    database: FreshDatabase,
) -> None:
    vendors = (*seeded_vendors(), vendor_profile("gpu_vendor_3", "Shy", "1"))
    async with World.open(database, vendors=vendors) as world:
        world.vendor_fault("gpu_vendor_3", "quote", "refuse")
        run = await world.start()
        await world.tick(run)
        status = status_view(await world.run(run), [], [], [])
        assert {o["vendorId"]: o["verdict"] for o in status["offers"]} == {
            "gpu_vendor_1": "taken",
            "gpu_vendor_2": "dearer",
        }
        [silent] = status["noQuotes"]
        assert silent["vendorId"] == "gpu_vendor_3"
        assert silent["why"].startswith("it refuses our secret")


async def test_who_makes_an_offer_later_is_no_longer_among_the_silent(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        world.vendor_fault("*", "quote", "refuse")
        run = await world.start()
        await world.tick(run)
        assert len((await world.run(run)).no_quotes) == 2
        world.clear_faults()
        await world.tick(run)
        after = await world.run(run)
        assert (len(after.offers), after.no_quotes) == (2, ())


async def test_a_vendor_too_dear_for_the_exposure_limit_is_named(database: FreshDatabase) -> None:
    limits = Limits(slices=SliceRule(first_minutes=60, exposure=Usd.parse("0.024")))
    async with World.open(database, limits=limits) as world:
        run = await world.start()
        await world.tick(run)
        [silent] = (await world.run(run)).no_quotes
        assert silent.vendor_id == "gpu_vendor_2", "its minute costs 3 cents"
        assert "MAX_EXPOSURE_USD" in silent.why


async def test_no_launch_prepays_more_than_the_exposure_limit(database: FreshDatabase) -> None:
    """A vendor may ask for many times its list price; it is asked for less time then."""

    def fivefold(path: str, answer: dict[str, Any]) -> dict[str, Any] | None:
        if path != "/quote":
            return None
        return {**answer, "priceEstimate": answer["priceEstimate"] * 5}

    limits = Limits(slices=SliceRule(first_minutes=60, exposure=Usd.parse(2)))
    wrap = Wraps(http=lambda inner: Rewritten(inner, fivefold))
    async with World.open(database, limits=limits, wrap=wrap) as world:
        run = await world.start(dollars=50)
        await world.tick(run)
        offers = [offer.quote for offer in (await world.run(run)).offers]
        quoted = {q.vendor_id: (q.minutes, q.price) for q in offers}
        assert quoted["gpu_vendor_1"] == (17, Usd.parse("2"))
        assert all(price <= Usd.parse(2) for _, price in quoted.values())


async def test_a_quote_that_has_expired_by_the_time_of_paying_is_asked_for_again(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start()
        state: AgentState = {"messages": []}
        deps = world.process.deps
        leased, lease = await deps.ledger.runs.acquire(run.id, world.clock.now, 3_600)
        context = TickContext(deps, leased, lease)
        await intake(state, context)
        chosen = await choose_vendor(state, context)
        assert chosen.goto == Phase.APPROVE
        world.clock.advance(minutes=11)  # the vendors' quotes last for ten
        assert isinstance(chosen.update, dict)
        state["decision"] = chosen.update["decision"]
        paid = await pay(state, context)
        await context.flush()
        assert isinstance(paid.update, dict)
        assert paid.update["phase"] == Phase.ASSESS_BUDGET, "where the next tick asks again"
        assert (await world.run(run)).reservations == ()
        assert await world.payments(run) == []
        assert len(await world.told(run, "quote_expired")) == 1


async def test_an_offer_that_ends_before_it_could_be_paid_is_none(database: FreshDatabase) -> None:
    async with World.open(database, quote_ttl_s=20) as world:
        run = await world.start()
        assert (await world.tick(run)).startswith("Waiting: ")
        silent = (await world.run(run)).no_quotes
        assert [s.why for s in silent] == ["its offer ends too soon to be paid"] * 2


async def test_a_quote_without_an_end_is_believed_for_as_long_as_the_owner_says(
    database: FreshDatabase,
) -> None:
    async with World.open(database, limits=Limits(quote_fresh_minutes=5)) as world:
        run = await world.start()
        await world.tick(run)
        ends = {offer.quote.expires_at for offer in (await world.run(run)).offers}
        assert ends == {world.clock.now() + timedelta(minutes=5)}
