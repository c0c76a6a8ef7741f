"""What the registered vendors ask, for a person who has rented nothing yet."""

from __future__ import annotations

from typing import Final

from graph.deps import Deps
from graph.replies import Reply

MOST_VENDORS: Final = 20
HOW_TO_RENT: Final = "To rent one, say what to run, for how long, and for how much at most."
HOW_TO_PLAN: Final = (
    '`gpu-renter plan "…"` asks for the current offers for a goal, and pays nothing.'
)


async def prices(deps: Deps, gpu: str = "") -> Reply:
    """What an hour costs by the registry, the cheapest first. gpu: of this type alone."""
    everybody = await deps.ledger.vendors.all()
    vendors = [v for v in everybody if not gpu or v.can_run(gpu)]
    if not vendors:
        return Reply(f"No registered vendor has {gpu}." if gpu else "No vendor is registered.")
    listed = sorted(vendors, key=lambda v: (v.price_per_hour, v.vendor_id))
    if gpu:
        asked = ", ".join(f"{v.price_per_hour} at {v.name}" for v in listed)
        return Reply(f"An hour of {gpu} costs {asked}. {HOW_TO_RENT}")
    lines = [
        f"- {v.name}: {v.price_per_hour} an hour for {', '.join(v.gpu_types)}"
        for v in listed[:MOST_VENDORS]
    ]
    if more := len(listed) - len(lines):
        lines.append(f"- and {more} more, dearer")
    return Reply("\n".join(["By their list prices:", *lines, f"{HOW_TO_RENT} {HOW_TO_PLAN}"]))
