"""What a clock may say: times that other processes wrote are claims, bounded here.

A lease, a due time or a turn lies ahead by what its writer added to its own clock. One that lies
further ahead than the longest that can be added was written by a clock that was off, and would keep
a run from everybody until then: it counts as past.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

MOST_OFF_STORE: Final = timedelta(seconds=5)
"""By how much a process's clock may be off MongoDB's. One that is off by more does not tick."""
MOST_OFF: Final = 3 * MOST_OFF_STORE
"""By how much the clocks of two processes may differ: one is ahead of MongoDB's and one behind, and
a slow answer of MongoDB's, or the time since it was asked, hides some of it.
"""
LONGEST_LEASE: Final = timedelta(hours=1)
"""The most that LEASE_SECONDS can be set to."""
LONGEST_DUE: Final = timedelta(days=8)
"""A run's next tick is due within it: a question to a person lasts for seven days at most
(APPROVAL_MINUTES), a pause for an hour."""


def impossible(at: datetime, now: datetime, longest: timedelta) -> bool:
    """Whether `at` is further ahead than a sound clock can have put it."""
    return at > now + longest + MOST_OFF
