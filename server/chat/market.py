"""What the registered vendors ask, for a person who has rented nothing yet."""

from __future__ import annotations

from typing import Final

from domain.goals import Reading
from domain.goals.reading import hours
from domain.jobs import MINUTES_PER_HOUR
from domain.quotes import able_vendors, nobody_has
from graph.deps import Deps
from server.chat.replies import Said

MOST_VENDORS: Final = 20
HOW_TO_RENT: Final = "To rent one, say what to run, for how long, and for how much at most."
HOW_TO_PLAN: Final = (
    '`gpu-renter plan "…"` asks for the current offers for a goal, and pays nothing.'
)


async def prices(deps: Deps, asked: Reading | None = None) -> Said:
    """What an hour costs by the registry, the cheapest first. asked: of these GPUs alone, and for
    the time that it names.
    """
    everybody = await deps.ledger.vendors.all()
    spec = asked.spec() if asked and asked.gpu_type else None
    vendors = able_vendors(everybody, spec) if spec else everybody
    if not vendors:
        if spec and everybody:
            none = nobody_has(spec, everybody)
            return Said(f"{none[0].upper()}{none[1:]}.")
        return Said("No vendor is registered.")
    listed = sorted(vendors, key=lambda v: (v.price_per_hour, v.vendor_id))
    if asked and spec:
        minutes = asked.minutes or MINUTES_PER_HOUR
        told = ", ".join(
            f"{v.price_per_hour.scaled(minutes * spec.gpu_count, MINUTES_PER_HOUR)} at {v.name}"
            for v in listed[:MOST_VENDORS]
        )
        time = hours(asked.minutes).replace(" h", " hours") if asked.minutes else "An hour"
        several = f"{spec.gpu_count} × " if spec.gpu_count > 1 else ""
        verb = "cost" if asked.minutes and asked.minutes != MINUTES_PER_HOUR else "costs"
        return Said(f"{time} of {several}{spec.gpu} {verb} {told}. {HOW_TO_RENT}")
    lines = [
        f"- {v.name}: {v.price_per_hour} an hour for {', '.join(v.gpu_types)}"
        for v in listed[:MOST_VENDORS]
    ]
    if more := len(listed) - len(lines):
        lines.append(f"- and {more} more, dearer")
    return Said("\n".join(["By their list prices:", *lines, f"{HOW_TO_RENT} {HOW_TO_PLAN}"]))
