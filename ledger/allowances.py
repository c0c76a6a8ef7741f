"""What each user may spend in a day and an hour, and at a vendor in a day, over all runs.

One document for each user and day. Holding an amount is one guarded update of it, so the caps hold
with any number of ticks in parallel. A slot counts once, with the largest amount it may cost; each
vendor that may be paid for it counts with its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from domain.errors import Conflict, PolicyRefused
from domain.money import Usd
from domain.policy import Caps
from ledger.store import Document, Store

COLLECTION: Final = "allowances"
LONGEST_RACE: Final = 16


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be counted: `amount` for `slot` ("run:number"), paid to a vendor."""

    slot: str
    vendor_id: str
    amount: Usd


def allowance_id(user_id: str, now: datetime) -> str:
    """The document of a user's day."""
    return f"{now:%Y-%m-%d}|{user_id}"


class Allowances:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def check(self, caps: Caps, id_: str, charge: Charge, now: datetime) -> None:
        """Raise PolicyRefused, naming the cap, when `charge` would not be held now."""
        document = await self.documents.get(id_) or _EMPTY
        _Change(document, charge, now).check(caps)

    async def hold(self, caps: Caps, id_: str, charge: Charge, now: datetime) -> None:
        """Count a charge against the caps; again, only what it is larger by. PolicyRefused."""
        await self.documents.insert({"_id": id_, **_EMPTY})
        for _ in range(LONGEST_RACE):
            change = _Change(await self.documents.get(id_) or _EMPTY, charge, now)
            if change.nothing:
                return
            change.check(caps)
            if await self.documents.change(id_, change.guard(), change.update()):
                return
        raise Conflict("The user's allowance changes too fast to be held", "Try again")

    async def settle(self, id_: str, slot: str, spent: Usd, vendor_id: str | None) -> None:
        """Count what a closed slot really spent, and at whom. Again changes nothing."""
        document = await self.documents.get(id_) or _EMPTY
        entry = document["slots"].get(_key(slot))
        if entry is None or entry.get("settled"):
            return
        winner = _key(vendor_id) if vendor_id else None
        back = entry["amount"] - spent.micros
        counters = {"day": -back, f"hours.{entry['hour']}": -back}
        for vendor, amount in entry["vendors"].items():
            counters[f"vendors.{vendor}"] = (spent.micros if vendor == winner else 0) - amount
        field = f"slots.{_key(slot)}"
        await self.documents.change(
            id_,
            {f"{field}.amount": entry["amount"], f"{field}.settled": {"$ne": True}},
            {"$inc": counters, "$set": {f"{field}.settled": True}},
        )


_EMPTY: Final[Mapping[str, Any]] = {"day": 0, "hours": {}, "vendors": {}, "slots": {}}


class _Change:
    """What holding a charge does to a day's document."""

    def __init__(self, document: Mapping[str, Any], charge: Charge, now: datetime) -> None:
        self._document = document
        self._field = f"slots.{_key(charge.slot)}"
        self._vendor = _key(charge.vendor_id)
        self._entry: Mapping[str, Any] = document["slots"].get(_key(charge.slot)) or {
            "amount": 0, "hour": f"{now:%H}", "vendors": {},
        }  # fmt: skip
        amount = charge.amount.micros
        self._more = max(0, amount - self._entry["amount"])
        self._more_at_vendor = max(0, amount - self._entry["vendors"].get(self._vendor, 0))

    @property
    def nothing(self) -> bool:
        return not (self._more or self._more_at_vendor)

    def check(self, caps: Caps) -> None:
        hour = self._document["hours"].get(self._entry["hour"], 0)
        vendor = self._document["vendors"].get(self._vendor, 0)
        for rule, cap, used, more in (
            ("max_user_day", caps.user_day, self._document["day"], self._more),
            ("max_user_hour", caps.user_hour, hour, self._more),
            ("max_vendor_day", caps.vendor_day, vendor, self._more_at_vendor),
        ):
            if cap is not None and used + more > cap.micros:
                raise PolicyRefused(
                    rule,
                    f"{Usd(more).exact()} more would be {Usd(used + more).exact()}, above the cap "
                    f"of {cap.exact()}",
                    f"Wait, or raise {rule.upper()}_USD",
                )

    def guard(self) -> Document:
        """The counters that were checked are as they were."""
        fields = (
            "day", f"hours.{self._entry['hour']}", f"vendors.{self._vendor}",
            f"{self._field}.amount", f"{self._field}.vendors.{self._vendor}",
        )  # fmt: skip
        return {field: _at(self._document, field) for field in fields}

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


def _key(text: str) -> str:
    """`text` as a field name: dots and dollars mean something else there."""
    return text.replace("%", "%25").replace(".", "%2E").replace("$", "%24")
