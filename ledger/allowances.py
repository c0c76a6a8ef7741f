"""What each user may spend in a day and an hour, and at a vendor in a day, over all runs; and what
everyone together may in a day.

One document for each user and day, and one for each day. Holding an amount is one guarded update of
it, so the caps hold with any number of ticks in parallel. A slot counts once, with the largest
amount it may cost; each vendor that may be paid for it counts with its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from domain.errors import Conflict, PolicyRefused
from domain.ids import user_day, wallet_day
from domain.money import Usd
from domain.policy import Caps
from ledger.store import Document, Store, field_name, field_text

COLLECTION: Final = "allowances"
LONGEST_RACE: Final = 16
_AFTER_THE_BAR: Final = "}"
"""Comes after the bar that ends the day in an id."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be counted: `amount` for `slot` ("run:number"), paid to a vendor."""

    slot: str
    vendor_id: str
    amount: Usd


class Allowances:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def check(self, caps: Caps, id_: str, charge: Charge, now: datetime) -> None:
        """Raise PolicyRefused, naming the cap, when `charge` would not be held now.

        id_: of the user's day (user_day).
        """
        for day, of_day in _days(caps, id_):
            document = await self.documents.get(day) or _EMPTY
            _Change(document, charge, now).check(of_day)

    async def hold(self, caps: Caps, id_: str, charge: Charge, now: datetime) -> None:
        """Count a charge against the caps; repeated, only what it grew by. Raises PolicyRefused."""
        for day, of_day in _days(caps, id_):
            await self._hold(of_day, day, charge, now)

    async def _hold(self, caps: Caps, id_: str, charge: Charge, now: datetime) -> None:
        await self.documents.insert({"_id": id_, **_EMPTY})
        for _ in range(LONGEST_RACE):
            change = _Change(await self.documents.get(id_) or _EMPTY, charge, now)
            if change.nothing:
                return
            change.check(caps)
            if await self.documents.change(id_, change.guard(caps), change.update()):
                return
        raise Conflict("The allowance changes too fast to be held", "Try again")

    async def settle(self, id_: str, slot: str, spent: Usd, vendor_id: str | None) -> None:
        """Count what a closed slot really spent, and at whom, instead of what was held. Idempotent.

        id_: of the user's day, as when it was held.
        """
        for day in (id_, wallet_day(id_)):
            await self._settle(day, slot, spent, vendor_id)

    async def unsettled(self, now: datetime) -> set[str]:
        """The slots ("run:number") that still count with all that was held, on the day of `now`."""
        day = user_day("", now)
        found = await self.documents.find({"_id": {"$gte": day, "$lt": day[:-1] + _AFTER_THE_BAR}})
        if everyone := await self.documents.get(wallet_day(day)):
            found.append(everyone)
        return {
            field_text(slot)
            for document in found
            for slot, entry in document["slots"].items()
            if not entry.get("settled")
        }

    async def _settle(self, id_: str, slot: str, spent: Usd, vendor_id: str | None) -> None:
        document = await self.documents.get(id_) or _EMPTY
        entry = document["slots"].get(field_name(slot))
        if entry is None or entry.get("settled"):
            return
        winner = field_name(vendor_id) if vendor_id else None
        back = entry["amount"] - spent.micros
        counters = {"day": -back, f"hours.{entry['hour']}": -back}
        for vendor, amount in entry["vendors"].items():
            counters[f"vendors.{vendor}"] = (spent.micros if vendor == winner else 0) - amount
        field = f"slots.{field_name(slot)}"
        await self.documents.change(
            id_,
            {f"{field}.amount": entry["amount"], f"{field}.settled": {"$ne": True}},
            {"$inc": counters, "$set": {f"{field}.settled": True}},
        )


_EMPTY: Final[Mapping[str, Any]] = {"day": 0, "hours": {}, "vendors": {}, "slots": {}}


def _days(caps: Caps, id_: str) -> list[tuple[str, Caps]]:
    """The documents in which a charge counts, each with its own caps."""
    days = [(id_, replace(caps, wallet_day=None))] if caps.of_users else []
    if caps.wallet_day is not None:
        days.append((wallet_day(id_), Caps(wallet_day=caps.wallet_day)))
    return days


class _Change:
    """What holding a charge does to a day's document."""

    def __init__(self, document: Mapping[str, Any], charge: Charge, now: datetime) -> None:
        self._document = document
        self._field = f"slots.{field_name(charge.slot)}"
        self._vendor = field_name(charge.vendor_id)
        self._entry: Mapping[str, Any] = document["slots"].get(field_name(charge.slot)) or {
            "amount": 0,
            "hour": f"{now:%H}",
            "vendors": {},
        }
        amount = charge.amount.micros
        self._more = max(0, amount - self._entry["amount"])
        self._more_at_vendor = max(0, amount - self._entry["vendors"].get(self._vendor, 0))

    @property
    def nothing(self) -> bool:
        return not (self._more or self._more_at_vendor)

    def check(self, caps: Caps) -> None:
        for rule, field, cap, more in self._capped(caps):
            used = self._counted(field)
            if used + more > cap.micros:
                raise PolicyRefused(
                    rule,
                    f"{Usd(more).exact()} more would be {Usd(used + more).exact()}, above the cap "
                    f"of {cap.exact()}",
                    f"Wait, or raise {rule.upper()}_USD",
                )

    def _capped(self, caps: Caps) -> list[tuple[str, str, Usd, int]]:
        """Each cap in force: its rule, the counter that it bounds, itself, and what comes to it."""
        return [
            (rule, field, cap, more)
            for rule, field, cap, more in (
                ("max_user_day", "day", caps.user_day, self._more),
                ("max_wallet_day", "day", caps.wallet_day, self._more),
                ("max_user_hour", f"hours.{self._entry['hour']}", caps.user_hour, self._more),
                (
                    "max_vendor_day",
                    f"vendors.{self._vendor}",
                    caps.vendor_day,
                    self._more_at_vendor,
                ),
            )
            if cap is not None
        ]

    def _counted(self, field: str) -> int:
        found = _at(self._document, field)
        return found if isinstance(found, int) else 0

    def guard(self, caps: Caps) -> Document:
        """The capped counters have room, and the slot's own entry is as it was: other slots of the
        same day are counted side by side.
        """
        entry = (f"{self._field}.amount", f"{self._field}.vendors.{self._vendor}")
        room = {
            field: {"$not": {"$gt": cap.micros - more}}
            for _, field, cap, more in self._capped(caps)
        }
        return room | {field: _at(self._document, field) for field in entry}

    def update(self) -> Document:
        return {
            "$inc": {
                "day": self._more,
                f"hours.{self._entry['hour']}": self._more,
                f"vendors.{self._vendor}": self._more_at_vendor,
                f"{self._field}.amount": self._more,
                f"{self._field}.vendors.{self._vendor}": self._more_at_vendor,
            },
            "$set": {f"{self._field}.hour": self._entry["hour"]},
        }


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        if name not in value:
            return {"$exists": False}
        value = value[name]
    return value
