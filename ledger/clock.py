"""Whether this machine's clock agrees with MongoDB's, which all processes of a fleet share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from domain.clocks import MOST_OFF_STORE
from domain.errors import ClockOff
from ledger.store import Store

LOG: Final = logging.getLogger(__name__)
CHECK_EVERY_S: Final = 30.0
"""Seconds for which one measurement is believed."""


class ClockWatch:
    """Measures the difference now and then; while it is too large, `check` raises.

    Leases and due times are written by each process's own clock: a wrong one would take what others
    work on, or keep it from them.
    """

    def __init__(
        self, store: Store, now: Callable[[], datetime], lease_seconds: float = 60.0
    ) -> None:
        """lease_seconds: how long a lease lasts; clocks may differ by a quarter of it at most."""
        self._store = store
        self._now = now
        self._most = min(MOST_OFF_STORE, timedelta(seconds=lease_seconds / 4))
        self._measured_at = float("-inf")
        self._problem = ""

    async def off_by(self) -> timedelta:
        """How far our clock is ahead of MongoDB's, less what the round trip may explain.

        Raises StoreDown.
        """
        before = self._now()
        theirs = await self._store.time()
        after = self._now()
        ahead, way = before + (after - before) / 2 - theirs, abs(after - before) / 2
        return max(timedelta(0), abs(ahead) - way) * (1 if ahead > timedelta(0) else -1)

    async def check(self) -> None:
        """Raise ClockOff while our clock is too far off. Raises StoreDown."""
        clock = asyncio.get_running_loop().time()
        if clock - self._measured_at >= CHECK_EVERY_S or self._problem:
            before, off = self._problem, await self.off_by()
            self._measured_at, self._problem = clock, ""
            if abs(off) > self._most:
                way = "ahead of" if off > timedelta(0) else "behind"
                self._problem = (
                    f"This machine's clock is {abs(off).total_seconds():.1f} s {way} MongoDB's"
                )
            if self._problem and not before:
                LOG.error("%s: nothing is ticked here until it is set", self._problem)
            elif before and not self._problem:
                LOG.warning("this machine's clock agrees with MongoDB's again")
        if self._problem:
            raise ClockOff(self._problem, "Set the clock (NTP); no run is ticked here until then")
