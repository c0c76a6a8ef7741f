"""What each user may spend in a day and an hour, and at a vendor in a day, over all runs.

One document for each user and day. Holding an amount is one guarded update of it, so the caps hold
with any number of ticks in parallel. An entry is named by its slot, so holding twice counts once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from domain.errors import Conflict, PolicyRefused
from domain.money import Usd
from domain.policy import Caps
from ledger.store import Document, Store

COLLECTION: Final = "allowances"
LONGEST_RACE: Final = 16


class Allowances:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def hold(
        self, caps: Caps, user_id: str, vendor_id: str, slot: str, amount: Usd, now: datetime
    ) -> str:
        """Count `amount` for `slot` ("run:number") against the caps; give the document's id.

        Holding a slot again counts only what the new amount is above the old one. Raises
        PolicyRefused, naming the cap.
        """
        id_ = f"{now:%Y-%m-%d}|{user_id}"
        entry, vendor, hour = _key(slot), _key(vendor_id), f"{now:%H}"
        await self.documents.insert({"_id": id_, "day": 0, "hours": {}, "vendors": {}, "slots": {}})
        for _ in range(LONGEST_RACE):
            document = await self.documents.get(id_) or {}
            held = document["slots"].get(entry)
            more = amount.micros - (held["amount"] if held else 0)
            if more <= 0:
                return id_
            _check(caps, document, vendor, hour, more)
            if await self.documents.change(
                id_,
                _unchanged(document, entry, vendor, hour),
                {
                    "$inc": {"day": more, f"hours.{hour}": more, f"vendors.{vendor}": more},
                    "$set": {
                        f"slots.{entry}": {
                            "amount": amount.micros, "hour": hour, "vendor": vendor,
                        }
                    },
                },
            ):  # fmt: skip
                return id_
        raise Conflict(f"The allowance of {user_id} changes too fast to hold {amount}", "Try again")

    async def settle(self, id_: str, slot: str, spent: Usd) -> None:
        """Count what a closed slot really spent. Again changes nothing."""
        document = await self.documents.get(id_)
        held = document["slots"].get(_key(slot)) if document else None
        if held is None or held["amount"] == spent.micros:
            return
        back = held["amount"] - spent.micros
        await self.documents.change(
            id_,
            {f"slots.{_key(slot)}.amount": held["amount"]},
            {
                "$inc": {
                    "day": -back,
                    f"hours.{held['hour']}": -back,
                    f"vendors.{held['vendor']}": -back,
                },
                "$set": {f"slots.{_key(slot)}.amount": spent.micros},
            },
        )


def _check(caps: Caps, document: Document, vendor: str, hour: str, more: int) -> None:
    counted = (
        ("max_user_day", caps.user_day, document["day"]),
        ("max_user_hour", caps.user_hour, document["hours"].get(hour, 0)),
        ("max_vendor_day", caps.vendor_day, document["vendors"].get(vendor, 0)),
    )
    for rule, cap, used in counted:
        if cap is not None and used + more > cap.micros:
            raise PolicyRefused(
                rule,
                f"{Usd(more)} more would be {Usd(used + more)}, above the cap of {cap}",
                f"Wait, or raise {rule.upper()}_USD",
            )


def _unchanged(document: Document, entry: str, vendor: str, hour: str) -> dict[str, Any]:
    """A guard: the counters that were checked are as they were."""
    held = document["slots"].get(entry)
    same: dict[str, Any] = {"day": document["day"]}
    same[f"slots.{entry}.amount"] = held["amount"] if held else {"$exists": False}
    same[f"hours.{hour}"] = document["hours"].get(hour, {"$exists": False})
    same[f"vendors.{vendor}"] = document["vendors"].get(vendor, {"$exists": False})
    return same


def _key(text: str) -> str:
    """`text` as a field name: dots and dollars mean something else there."""
    return text.replace("%", "%25").replace(".", "%2E").replace("$", "%24")
