"""A chain reader that says what it reads, in steps: `chain balance`, `chain authorization` …"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from tools.payments.chain import Chain
from tools.wire.observer import Observer

_STEPS: Final = {"block_at": "block", "transfers_in": "transfer", "nonce_of": "transfer"}
"""Steps that are not called as the method is."""


def watched(chain: Chain, observer: Observer) -> Chain:
    """`chain`, whose promises it keeps, with a step for each read."""
    return cast(Chain, _WatchedChain(chain, observer))


class _WatchedChain:
    def __init__(self, chain: Chain, observer: Observer) -> None:
        self._chain = chain
        self._observer = observer

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        read = getattr(self._chain, name)

        async def watched_read(*args: Any, **named: Any) -> Any:
            with self._observer.step("chain", _STEPS.get(name, name)):
                return await read(*args, **named)

        return watched_read
