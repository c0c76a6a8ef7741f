"""What a clock may say: times that other processes wrote are claims, bounded here.

A lease, a due time or a turn lies ahead by what its writer added to its own clock. One that lies
further ahead than the longest that can be added was written by a clock that was off, and would keep
a run from everybody until then: it counts as past.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

MOST_OFF: Final = timedelta(seconds=5)
"""By how much the clocks of processes may differ. One that differs by more does not tick."""
LONGEST_LEASE: Final = timedelta(hours=1)
"""The most that LEASE_SECONDS can be set to."""
LONGEST_DUE: Final = timedelta(days=8)
"""A run's next tick is due within it: a question to a person lasts for seven days at most
(APPROVAL_MINUTES), a pause for an hour."""


def impossible(at: datetime, now: datetime, longest: timedelta) -> bool:
    """Whether `at` is further ahead than a sound clock can have put it."""
    return at > now + longest + MOST_OFF
