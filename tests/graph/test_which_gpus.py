"""Which GPU is rented where a goal lets more than one do, and what an hour of it may cost."""

from __future__ import annotations

from mock_vendor.vendor.settings import vendor_profile
from tests.support.stack import FreshDatabase
from tests.support.world import SIDE_BY_SIDE, World

VENDORS = (
    vendor_profile("gpu_vendor_1", "Dear", "3", gpu_types=("A100",)),
    vendor_profile("gpu_vendor_2", "Cheap", "2", gpu_types=("H100", "L4")),
)


async def rented(world: World, goal: str) -> tuple[str, str]:
    run = await world.start(goal)
    await world.tick_until(run, "Job started")
    [payment] = await world.payments(run)
    return payment.vendor_id, payment.gpu_type


async def test_each_vendor_is_asked_for_what_it_has_of_the_types_that_will_do(
    database: FreshDatabase,
) -> None:
    async with World.open(database, vendors=VENDORS, limits=SIDE_BY_SIDE) as world:
        assert await rented(world, "Train on an A100 or H100 for 1 hour") == (
            "gpu_vendor_2",
            "H100",
        )
        assert await rented(world, "Train on an A100 for 1 hour") == ("gpu_vendor_1", "A100")
        assert await rented(world, "Train on a 48GB GPU for 1 hour") == ("gpu_vendor_2", "H100")
        assert (await rented(world, "Train on the cheapest GPU you have"))[0] == "gpu_vendor_2"


async def test_an_hour_dearer_than_the_goal_allows_is_not_rented(database: FreshDatabase) -> None:
    async with World.open(database, vendors=VENDORS) as world:
        goal = "Train on an A100 or H100 for 1 hour, at most $2.50 an hour"
        assert (await rented(world, goal))[0] == "gpu_vendor_2"
        run = await world.start("Train on an A100 for 1 hour, at most $2.50 an hour")
        await world.tick(run)
        after = await world.run(run)
        assert after.spec is not None
        assert [s.why for s in after.no_quotes] == [
            "it asks for $3.00 an hour, above the $2.50 that the goal allows"
        ]
        assert await world.payments(run) == []


async def test_a_run_that_nobody_said_yes_to_ends_unpaid_at_any_door(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start("Run my train.py on an A100 for 1 hour")
        message = await world.tick(run)
        assert message.startswith("Run failed: Not used: train.py. It starts only once")
        assert world.transfers() == []
