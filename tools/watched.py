"""Clients that say what they do, in steps: `chain balance`, `vendor quote` of gpu_vendor_1 …"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final, cast

from tools.payments.chain import Chain
from tools.vendors.base import VendorClient
from tools.wire.observer import Observer, Step

_CHAIN_STEPS: Final = {"block_at": "block", "transfers_in": "transfer", "nonce_of": "transfer"}
"""Steps that are not called as the method is."""


def watched_chain(chain: Chain, observer: Observer) -> Chain:
    """`chain`, whose promises it keeps, with a step for each read."""

    def step(read: str, *_: Any) -> AbstractContextManager[Step]:
        return observer.step("chain", _CHAIN_STEPS.get(read, read))

    return cast(Chain, _Watched(chain, step))


def watched_vendors(vendors: VendorClient, observer: Observer) -> VendorClient:
    """`vendors`, whose promises it keeps, with a step for each call, named as its address is."""

    def step(call: str, vendor: Any, *_: Any) -> AbstractContextManager[Step]:
        name = "artifact" if call == "download" else call.replace("_", "-")
        return observer.step("vendor", name, vendor=vendor.vendor_id)

    return cast(VendorClient, _Watched(vendors, step))


class _Watched:
    """A client each of whose methods is called within a step."""

    def __init__(self, client: Any, step: Callable[..., AbstractContextManager[Step]]) -> None:
        """step: begins one; it is given the method's name and its positional arguments."""
        self._client = client
        self._step = step

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._client, name)

        async def watched(*args: Any, **named: Any) -> Any:
            with self._step(name, *args):
                return await call(*args, **named)

        return watched
