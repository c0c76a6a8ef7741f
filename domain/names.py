"""Vendors in sentences for people: by the name that they are registered with, not by their id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from domain.quotes import Vendor

_TELLING: Final = re.compile(r"[0-9._-]")
"""Characters that tell an id from a plain word."""


class Names(dict[str, str]):
    """A vendor's id → what people call it; one that is not registered is called by its id."""

    def __missing__(self, vendor_id: str) -> str:
        return vendor_id


def names_of(vendors: Iterable[Vendor]) -> Names:
    """The vendors' names by their ids; a name that several share is followed by the id."""
    known = list(vendors)
    shared = Counter(vendor.name for vendor in known)
    return Names(
        (v.vendor_id, v.name if shared[v.name] == 1 else f"{v.name} ({v.vendor_id})") for v in known
    )


def named(sentence: str, names: Names) -> str:
    """The sentence with vendors' names in place of their ids. Parts of paths and addresses stay,
    and so do ids that could be plain words.
    """
    ids = sorted(filter(_TELLING.search, names), key=len, reverse=True)
    if not ids:
        return sentence
    whole = rf"(?<![\w/.@(-])(?:{'|'.join(map(re.escape, ids))})(?![\w/@-]|\.\w)"
    return re.sub(whole, lambda found: names[found[0]], sentence)


def short(identifier: str) -> str:
    """`0xb4e8…8af7`."""
    return identifier if len(identifier) <= 14 else f"{identifier[:6]}…{identifier[-4:]}"
