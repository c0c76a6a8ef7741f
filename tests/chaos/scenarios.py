"""The histories that cases disturb: small, and each with a known clean end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from domain.money import Usd
from domain.networks import LOCAL
from domain.policy import SpendingPolicy
from domain.slices import SliceRule
from graph.deps import Limits
from mock_vendor.accounts import dev_address
from mock_vendor.vendor.settings import vendor_profile

V1: Final = dev_address("gpu_vendor_1")
V2: Final = dev_address("gpu_vendor_2")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A goal, a budget, and the world that it meets."""

    goal: str
    budget: str
    world: Mapping[str, Any]
    """Arguments of World.open."""
    pays: tuple[str, ...] = ()
    """Who is paid, in order, when nothing goes wrong, or crashes alone do."""
    limits: Limits = field(default_factory=Limits)
    asks_above: str | None = None
    """The approval threshold; a person then says yes to each question, a tick after it is asked."""
    asks: int = 0
    """How many questions there are when nothing goes wrong, or crashes alone do."""

    @property
    def policy(self) -> SpendingPolicy:
        threshold = None if self.asks_above is None else Usd.parse(self.asks_above)
        return SpendingPolicy(LOCAL, Usd.parse(100), approval_threshold=threshold)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    # The standard one: vendor 1 fails part-way, the agent recovers on vendor 2.
    "recover": Scenario(
        "Fine-tune on an A100", "5", {"failing": "gpu_vendor_1", "epochs": 2}, (V1, V2)
    ),
    # The same, and vendor 1 refunds the unused time on the chain.
    "refund": Scenario(
        "Fine-tune on an A100",
        "5",
        {"failing": "gpu_vendor_1", "epochs": 2, "refund_on_failure": True},
        (V1, V2),
    ),
    # One vendor, one job, nothing to recover.
    "simple": Scenario("Fine-tune on an A100", "5", {"epochs": 1}, (V1,)),
    # Five hours in slices: the launch pays for one, extensions for the rest.
    "slices": Scenario(
        "Fine-tune on an A100 for 5 hours",
        "20",
        {"epochs": 10},
        limits=Limits(slices=SliceRule(first_minutes=60, exposure=Usd(4_000_000))),
    ),
    # The budget is enough for one vendor, not for two; and for the cheaper one alone, for with
    # one attempt in the budget the more reliable one would be rented.
    "tight": Scenario("Fine-tune on an A100", "1.7", {"epochs": 1}, (V1,)),
    # The standard one, where each vendor waits for a person's approval.
    "asked": Scenario(
        "Fine-tune on an A100",
        "5",
        {"failing": "gpu_vendor_1", "epochs": 2},
        (V1, V2),
        asks_above="1",
        asks=2,
    ),
    # Five hours in slices, none of which is above the threshold: one question for all of them.
    "asked-slices": Scenario(
        "Fine-tune on an A100 for 5 hours",
        "20",
        {"epochs": 10},
        limits=Limits(slices=SliceRule(first_minutes=60, exposure=Usd(4_000_000))),
        asks_above="5",
        asks=1,
    ),
    # One vendor that is billed outside x402.
    "unpaid": Scenario(
        "Fine-tune on an A100",
        "5",
        {"epochs": 1, "vendors": (vendor_profile("gpu_vendor_1", "FastGPU", "1.4", rail="none"),)},
    ),
}
