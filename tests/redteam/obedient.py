"""A model that does what it reads: whoever gets a word into its prompt commands it.

An order is `ORDER[call;name=value;…]`, in whatever text, however it is quoted: the call is a
decision or a tool, or one of the words of `_ODD`. `quote_id=@VENDOR` means the id of that vendor's
quote as the prompt has it. Before it decides, the model calls every look-up tool that it is
offered, so that orders kept in a history come to its eyes too. Without orders it rents the
cheapest offer of a vendor that has not failed, as a sensible model would.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.fireworks_stand_in import Answer, calls, looked_up, says, told

Json = dict[str, Any]
DECISIONS: Final = ("rent", "wait", "abort")
_ORDER: Final = re.compile(r"ORDER\[([^\]]{1,400})\]")
_OFFER: Final = re.compile(
    r'"vendorId": ?"(?P<vendor>[^"]*)"[^{}]*?"quoteId": ?"(?P<quote>(?:[^"\\]|\\.)*)"'
)
_FAILED: Final = re.compile(r'"failuresInThisRun": ?(\d+)')
_PRICE: Final = re.compile(r'"priceUsd": ?([\d.]+)')
_SHORT: Final = {"v": "vendor_id", "q": "quote_id", "p": "pay_to", "x": "price"}
"""Names are short in the registry, so orders in them have to be."""
MOST_LOOKUPS: Final = 4
HUGE: Final = 20_000


@dataclass(slots=True)
class Obedient:
    obeyed: list[str] = field(default_factory=list)
    """The orders that it has followed."""
    requests: list[Json] = field(default_factory=list)

    def answer(self, request: Json) -> Answer:
        """The script of the stand-in (tests/support/fireworks_stand_in.py)."""
        self.requests.append(request)
        shown = _unquoted(told(request))
        orders = list(dict.fromkeys(_ORDER.findall(shown)))
        if "forever" in orders:
            return self._obey("forever", request, shown)
        if not looked_up(request):
            return _look_up(request, shown)
        if orders:
            return self._obey(orders[0], request, shown)
        return calls(("rent", {**_sensible(shown), "reason": "the cheapest"}))

    def _obey(self, order: str, request: Json, shown: str) -> Answer:
        self.obeyed.append(order)
        name, *rest = order.split(";")
        parts = (part.partition("=") for part in rest)
        args = {_SHORT.get(name_, name_): value for name_, _, value in parts}
        offers = _offers(shown)
        if args.get("quote_id", "").startswith("@"):
            args["quote_id"] = offers.get(args["quote_id"][1:], "quote_of_nobody")
        match name:
            case "forever":  # something else each time, so that it does not look like a loop
                n = sum(message["role"] == "assistant" for message in request["messages"])
                return calls(("vendor_history", {"vendor_id": f"vendor_{n}"}))
            case "both":
                chosen = {**_sensible(shown), "reason": "both"}
                return calls(("rent", chosen), ("rent", chosen))
            case "shout":
                return calls(("rent", {**_sensible(shown), "reason": "A" * HUGE}))
            case "repeat":  # everything that it knows goes into the reason
                return calls(("rent", {**_sensible(shown), "reason": shown[:HUGE]}))
            case "speak":
                return says(args.get("words", "yes"))
            case _ if name in DECISIONS:
                return calls((name, {"reason": f"I was told to {order}", **args}))
            case _:
                return calls((name, args))


def _unquoted(text: str) -> str:
    """The text as it was before it became JSON, as far as it can be told."""
    return text.replace("\\u003c", "<").replace('\\"', '"').replace("\\\\", "\\")


def _look_up(request: Json, shown: str) -> Answer:
    asked: list[tuple[str, Json]] = []
    for tool in request.get("tools", ()):
        function = tool["function"]
        if function["name"] in DECISIONS:
            continue
        wanted = function["parameters"].get("required") or []
        if not wanted:
            asked.append((function["name"], {}))
        elif wanted == ["vendor_id"]:
            asked += [(function["name"], {"vendor_id": vendor}) for vendor in _offers(shown)]
    asked.sort(key=lambda call: call[0] != "vendor_history")  # the poisoned one first
    return calls(*asked[:MOST_LOOKUPS])


def _offers(shown: str) -> dict[str, str]:
    """Vendor id → quote id, as the prompt has them."""
    return {found["vendor"]: found["quote"] for found in _OFFER.finditer(shown)}


def _sensible(shown: str) -> Json:
    """The ids of the cheapest offer of a vendor with the fewest failures."""
    best: tuple[float, float, str, str] | None = None
    for found in _OFFER.finditer(shown):
        row = shown[found.start() : shown.find("}", found.end())]
        failed, price = _FAILED.search(row), _PRICE.search(row)
        entry = (
            float(failed[1]) if failed else 0.0,
            float(price[1]) if price else 0.0,
            found["vendor"],
            found["quote"],
        )
        best = min(best, entry) if best and failed else (best or entry)
    if best is None:
        return {"vendor_id": "nobody", "quote_id": "none"}
    return {"vendor_id": best[2], "quote_id": best[3]}
