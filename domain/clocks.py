"""Bounds for times that other processes wrote: such a time is only as good as its writer's clock.

A lease, a due time or a turn is its writer's time plus a bounded span. One that lies further ahead
was written by a wrong clock, and would block its run until then: it counts as past.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

MOST_OFF_STORE: Final = timedelta(seconds=5)
"""The most that a process's clock may differ from MongoDB's; beyond it, it ticks nothing."""
MOST_OFF: Final = 3 * MOST_OFF_STORE
"""The most that the clocks of two processes may differ: one is ahead of MongoDB's, one behind, and
a slow answer or an old measurement hides some of the difference.
"""
LONGEST_LEASE: Final = timedelta(hours=1)
"""The most that LEASE_SECONDS can be set to."""
LONGEST_DUE: Final = timedelta(days=8)
"""A run's next tick is due within this: a question to a person lasts seven days at most, a pause an
hour.
"""


def impossible(at: datetime, now: datetime, longest: timedelta) -> bool:
    """Whether `at` is further ahead than a sound clock can have put it."""
    return at > now + longest + MOST_OFF
