"""Bars and short forms that read the same with and without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from domain.jobs import epoch
from domain.money import ZERO, Usd

FULL: Final = "█"
HALF: Final = "▒"
EMPTY: Final = "░"


def budget_bar(total: Usd, spent: Usd, reserved: Usd, width: int = 28) -> Text:
    """Spent, reserved and left of a budget, as shares of `width` cells."""
    if total <= ZERO:
        return Text(EMPTY * width, style="dim")
    used = min(width, round(width * spent.micros / total.micros))
    held = min(width - used, round(width * reserved.micros / total.micros))
    return Text.assemble(
        (FULL * used, "green"), (HALF * held, "yellow"), (EMPTY * (width - used - held), "dim")
    )


def budget_line(total: Usd, spent: Usd, reserved: Usd) -> Text:
    """The bar, and the amounts beside it."""
    line = budget_bar(total, spent, reserved).append(f"  {spent} spent", style="green")
    if reserved:
        line.append(f" · {reserved} reserved", style="yellow")
    return line.append(f" · {total - spent - reserved} left", style="default")


def progress_bar(share: float, style: str = "cyan", width: int = 28) -> Text:
    """A share of 0 to 1."""
    full = round(width * min(1.0, max(0.0, share)))
    return Text.assemble((FULL * full, style), (EMPTY * (width - full), "dim"))


def losses(lines: Sequence[str]) -> str:
    """`2.7572 → 2.2120`: the last five epochs of the last training among the lines."""
    curve: list[str] = []
    last = 0
    for found in filter(None, map(epoch, lines)):
        if found[0] <= last:
            curve.clear()
        last = found[0]
        curve.append(found[2])
    return " → ".join(curve[-5:])
