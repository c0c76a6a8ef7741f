"""How often one may ask. Each process counts for itself: several allow several times as much."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.requests import HTTPConnection

from domain.errors import RenterError
from server.config.settings import Settings

MOST_REMEMBERED: Final = 10_000


class TooMany(RenterError):
    """`retry_after_s`: when there is room again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, f"Try again in {retry_after_s} seconds")
        self.retry_after_s = retry_after_s


class RateLimits:
    """One count for each key, and one for each address that shows no key in force.

    An address that was refused too often is refused unheard, so that guessing costs the database
    nothing; but not with a key that was good in this process before: who shares an address with
    an attacker goes on working.
    """

    def __init__(self, settings: Settings) -> None:
        self._by_key = RateLimitItemPerMinute(settings.rate_limit_per_minute)
        self._by_address = RateLimitItemPerMinute(settings.rate_limit_anonymous_per_minute)
        self._counts = FixedWindowRateLimiter(MemoryStorage())
        self._good: OrderedDict[str, None] = OrderedDict()

    async def before_looking(self, address: str, key: str | None) -> None:
        """Raise TooMany for an address refused too often, unless its key is known as good."""
        if key is not None and key in self._good:
            return
        if not await self._counts.test(self._by_address, _network(address)):
            await self._refuse(
                self._by_address, _network(address), "Too many requests without a key"
            )

    async def refused(self, address: str, key: str | None) -> None:
        """Count a request that showed no key in force."""
        self._good.pop(key or "", None)
        await self._counts.hit(self._by_address, _network(address))

    async def admitted(self, key: str, key_id: str) -> None:
        """Count a request with a good key. Raises TooMany."""
        self._good[key] = None
        self._good.move_to_end(key)
        if len(self._good) > MOST_REMEMBERED:
            self._good.popitem(last=False)
        if not await self._counts.hit(self._by_key, f"key:{key_id}"):
            await self._refuse(self._by_key, f"key:{key_id}", "Too many requests with this API key")

    async def _refuse(self, item: RateLimitItem, name: str, problem: str) -> None:
        window = await self._counts.get_window_stats(item, name)
        wait = max(1, math.ceil(window.reset_time - time.time()))
        raise TooMany(f"{problem}: {item.amount} a minute are taken", wait)


class SharedLimits:
    """The limits of one server, at its API and at its pages: opened once the settings are known."""

    def __init__(self) -> None:
        self._opened: RateLimits | None = None

    def of(self, settings: Settings) -> RateLimits:
        self._opened = self._opened or RateLimits(settings)
        return self._opened


def address_of(connection: HTTPConnection) -> str:
    """Whose count a request without a key is on."""
    return connection.client.host if connection.client else "unknown"


def _network(address: str) -> str:
    """An IPv6 host has a whole /64 to ask from, so that is what counts."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"address:{address}"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return f"address:{ipaddress.ip_network((parsed, 64), strict=False)}"
    return f"address:{parsed}"
