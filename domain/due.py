"""When a run is to be ticked next: pure rules over what its last tick came to.

A run is due soon after something happened, later and later while nothing does, and never where
only a person can move it or nothing is left to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

MOST_DOUBLINGS: Final = 12


class TickOutcome(StrEnum):
    """How a tick ended, as far as the time of the next one depends on it."""

    ACTED = "acted"
    """The next step is the agent's own."""
    WATCHING = "watching"
    """A job runs."""
    WAITING = "waiting"
    """Only time helps: no offer that fits, a vendor or chain that did not answer."""
    ASKED = "asked"
    """A person has to answer first."""
    CLOSING = "closing"
    """The run has ended, and money of it may still be open."""
    OVER = "over"
    """The run has ended and its books are closed."""
    FAILED = "failed"
    """The tick itself failed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait, in seconds: at first, and at most."""

    first_s: float = 2.0
    most_s: float = 60.0
    lively_s: float = 15.0
    """The longest wait while a running job reports something at each tick."""
    patience_s: float = 5.0
    """The first wait where only time helps: a vendor in trouble is not asked again at once."""
    closing_most_s: float = 3600.0
    at_once: int = 3
    """How many steps without news may follow each other at once: a bound on busy loops."""


@dataclass(frozen=True, slots=True)
class Due:
    """The next tick: its time (None: never), and the number of ticks in a row without news."""

    at: datetime | None
    quiet: int


def due(
    outcome: TickOutcome,
    now: datetime,
    quiet: int,
    pace: Pace,
    *,
    news: bool = False,
    lively: bool = False,
    within_s: float | None = None,
    until: datetime | None = None,
) -> Due:
    """When the next tick is due.

    quiet: ticks in a row without news before this one. lively: the job reported something since the
    last tick, which shortens the wait but is no news. within_s: the next tick comes within so many
    seconds (a paid slice ends), though not sooner than `pace.first_s`. until: when the question to
    a person expires.
    """
    if outcome is TickOutcome.OVER:
        return Due(None, 0)
    if outcome is TickOutcome.ASKED and until is not None:
        return Due(max(now, until), 0)
    quiet = 0 if news else quiet + 1
    delay_s = _delay_s(outcome, max(0, quiet - 1), pace)
    if lively:
        delay_s = min(delay_s, max(pace.lively_s, pace.first_s))
    if within_s is not None:
        delay_s = min(delay_s, max(within_s, pace.first_s))
    return Due(now + timedelta(seconds=delay_s), quiet)


def _delay_s(outcome: TickOutcome, quiet: int, pace: Pace) -> float:
    match outcome:
        case TickOutcome.ACTED if quiet < pace.at_once:
            return 0.0
        case TickOutcome.ACTED:
            return _grown(pace.first_s, quiet - pace.at_once, pace.most_s)
        case TickOutcome.CLOSING:
            return _grown(pace.first_s, quiet, pace.closing_most_s)
        case TickOutcome.WAITING | TickOutcome.ASKED:
            return _grown(pace.patience_s, quiet, pace.most_s)
        case _:
            return _grown(pace.first_s, quiet, pace.most_s)


def _grown(first_s: float, doublings: int, most_s: float) -> float:
    return min(most_s, first_s * float(1 << min(doublings, MOST_DOUBLINGS)))


def until_renewal_s(paid_minutes: float, used_minutes: float, last_slice_minutes: float) -> float:
    """Seconds until a job's next slice should be bought: when a quarter of its last slice is left.

    Past that moment, half of the time that is left, so that there is time for a second try.
    """
    left = paid_minutes - used_minutes
    renewal = left - last_slice_minutes / 4
    return max(0.0, 60 * (renewal if renewal > 0 else left / 2))
