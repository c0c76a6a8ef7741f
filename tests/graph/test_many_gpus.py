"""A job on several GPUs: each is paid for, in slices that the exposure limit bounds."""

from __future__ import annotations

from domain.money import Usd
from domain.payments import PurchaseKind
from tests.support.stack import FreshDatabase
from tests.support.world import World


async def test_a_job_on_eight_gpus_is_paid_slice_by_slice_at_one_vendor_to_its_end(
    database: FreshDatabase,
) -> None:
    async with World.open(database) as world:
        run = await world.start("Train on 8 A100s for 2 hours", dollars=50)
        assert (await world.ticks(run, most=90))[-1] == "Job completed"
        payments = await world.payments(run)
        assert {p.vendor_id for p in payments} == {"gpu_vendor_1"}
        assert [p.kind for p in payments].count(PurchaseKind.LAUNCH) == 1
        exposure = world.process.deps.limits.slices.exposure
        assert all(p.amount <= exposure for p in payments)
        spent = (await world.run(run)).spent
        assert Usd.parse(22) < spent < Usd.parse(24), "eight times $1.40 an hour, for two hours"


async def test_a_budget_for_one_gpu_does_not_start_eight(database: FreshDatabase) -> None:
    async with World.open(database) as world:
        run = await world.start("Train on 8 A100s for 2 hours", dollars=5)
        assert (await world.ticks(run))[-1].startswith("Run failed: the budget has $5.00 left")
        assert await world.payments(run) == []
