"""How far the wallet's history on the chain was compared with the ledger, and with what result.

One document for each wallet and network: everything up to `block` has been compared to the
micro-dollar, so the next reconciliation begins after it. Each step is one guarded write of the sums
together with the transfers still open, so neither a crash nor a parallel reconciliation loses or
doubles anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer

from domain.ids import transfer_id
from domain.mapping import Mapped
from domain.money import Usd
from ledger.store import Store

COLLECTION: Final = "compared"
ACKNOWLEDGED: Final = "acknowledged"


@dataclass(frozen=True, slots=True)
class Stray(Mapped):
    """A transfer out of the wallet, or from a payee into it, that no payment explains so far."""

    tx_hash: str
    log_index: int
    block: int
    outgoing: bool
    other: str
    """Who received or sent it; checksummed."""
    amount: Usd
    run_id: str | None = None
    """The run whose nonce made it, where that has been found out."""
    slot: int = 0
    nonce: str | None = None
    traced: bool = False
    """Whether the run of its nonce was looked for."""

    @property
    def id(self) -> str:
        return transfer_id(self.tx_hash, self.log_index)


def _by_id(stored: Sequence[Mapping[str, Any]]) -> dict[str, Stray]:
    return {stray.id: stray for stray in map(Stray.of, stored)}


def _listed(strays: Mapping[str, Stray]) -> list[dict[str, Any]]:
    return [stray.document() for stray in strays.values()]


Strays = Annotated[Mapping[str, Stray], BeforeValidator(_by_id), PlainSerializer(_listed)]
"""Strays by their ids; the document holds them as a list."""


@dataclass(frozen=True, slots=True)
class Sums(Mapped):
    """Totals in micro-dollars over all blocks up to one."""

    ledger: int = 0
    """Payments less refunds, as the ledger has them."""
    chain: int = 0
    """Transfers out less those back from addresses that the wallet had paid, by the chain."""
    acknowledged: int = 0
    """What a person took out and acknowledged."""
    unlisted: int = 0
    """Transfers back from payees that were too many to be kept one by one."""


@dataclass(frozen=True, slots=True)
class Compared(Mapped):
    """The state of the comparison."""

    id: Annotated[str, Field(alias="_id", exclude=True)]
    start: int
    """The first block that a comparison of everything begins with."""
    block: int
    """The last block that was compared; one before `start` when none was."""
    version: int = 0
    sums: Sums = Sums()
    """The totals up to `block`."""
    payees: Annotated[frozenset[str], PlainSerializer(sorted)] = frozenset()
    """Lower-case addresses that the wallet has paid."""
    strays: Strays = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    """Payments that the ledger calls settled and the chain did not show."""
    unbalanced: tuple[str, ...] = ()
    """Runs whose books were wrong at the last look."""
    since: datetime | None = None
    """Runs that have not changed since this time need not be checked again."""


class Comparisons:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)
        self._acknowledged = store.documents(ACKNOWLEDGED)

    async def find(self, id_: str) -> Compared | None:
        document = await self.documents.get(id_)
        return Compared.of(document) if document else None

    async def begin(self, compared: Compared) -> Compared:
        """Store a first state; where there is one already, give that instead."""
        await self.documents.insert({"_id": compared.id, **compared.document()})
        found = await self.find(compared.id)
        return found or compared

    async def advance(self, before: Compared, after: Compared) -> Compared | None:
        """Replace `before` by `after`; None when another reconciliation was faster."""
        moved = replace(after, version=before.version + 1)
        guard = {"version": before.version}
        if await self.documents.change(before.id, guard, {"$set": moved.document()}):
            return moved
        return None

    async def acknowledge(
        self, wallet: str, strays: Iterable[Stray], reason: str, now: datetime
    ) -> int:
        """Note that a person knows of these transfers; how many were not noted before."""
        noted = 0
        for stray in strays:
            noted += await self._acknowledged.insert(
                {"_id": stray.id, "wallet": wallet, **stray.document(), "reason": reason, "at": now}
            )
        return noted

    async def acknowledged(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of these transfers that a person has acknowledged."""
        query = {"_id": {"$in": list(ids)}}
        return frozenset(d["_id"] for d in await self._acknowledged.find(query, fields={"_id": 1}))
