"""Time zones as people name them: PST, GMT+2, Europe/Berlin, "Berlin time".

An abbreviation is what it says, summer or winter; of those that several countries use, AMBIGUOUS
says which is taken, and the zone's name repeats it. A place has its own summer time. The rules of
places come from `zoneinfo`.
"""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

_HOURS: Final = {
    name: hours
    for hours, names in {
        0: "utc gmt z wet",
        1: "bst west cet",
        2: "cest eet",
        3: "eest msk",
        5: "pkt",
        5.5: "ist",
        8: "sgt hkt awst",
        9: "jst kst",
        10: "aest",
        11: "aedt",
        12: "nzst",
        13: "nzdt",
        -4: "edt",
        -5: "est cdt",
        -6: "cst mdt",
        -7: "mst pdt",
        -8: "pst",
        -9: "akst",
        -10: "hst",
    }.items()
    for name in names.split()
}
AMBIGUOUS: Final = frozenset(("bst", "cst", "ist"))
_PLACES: Final = {
    place: zone
    for zone, places in {
        "America/New_York": "et, eastern, boston, washington, miami, atlanta",
        "America/Chicago": "ct, central, austin, dallas, houston",
        "America/Denver": "mt, mountain",
        "America/Los_Angeles": "pt, pacific, seattle, san francisco, california",
        "Europe/Berlin": "munich, frankfurt, hamburg, cologne, german, central european",
        "Europe/Madrid": "barcelona",
        "Europe/Rome": "milan",
        "Europe/Zurich": "geneva",
        "Europe/London": "uk, british",
        "Asia/Kolkata": "mumbai, delhi, bangalore, bengaluru, india, indian",
        "Asia/Shanghai": "beijing, shenzhen, china",
        "Asia/Tokyo": "japan",
        "Asia/Seoul": "korea",
        "Australia/Sydney": "canberra",
    }.items()
    for place in places.split(", ")
}
_REGIONS: Final = "Europe America Asia Africa Australia Pacific Atlantic Indian"

ZONE: Final = (
    r"(?:(?:utc|gmt)\s?[+-]\s?[0-9]{1,2}(?::?[0-9]{2})?(?![0-9])|"
    r"[a-z]{3,20}/[a-z_]{3,20}(?:/[a-z_]{3,20})?|"
    r"(?:[a-z]+[ _])?[a-z]+\s+time|"
    rf"(?:{'|'.join(_HOURS)}|[ecmp]t))\b(?!\.\s*[a-z0-9$])"
)
"""A regular expression for what may be a zone; `zone_of` knows whether it is one."""


def zone_of(written: str) -> tzinfo | None:
    """The zone that the text means; None for what is no zone, like "real time"."""
    name = re.sub(r"\s+", " ", written.strip()).lower()
    if offset := re.fullmatch(r"(?:utc|gmt)\s?([+-])\s?([0-9]{1,2}):?([0-9]{2})?", name):
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        if ahead > timedelta(hours=14):
            return None
        return timezone(ahead if offset[1] == "+" else -ahead)
    place = re.sub(r" time$", "", name)
    if place in _HOURS:
        hours = timedelta(hours=_HOURS[place])
        if place in AMBIGUOUS:
            return timezone(hours, f"{place.upper()}, taken as {timezone(hours)}")
        return timezone(hours) if hours else UTC
    if "/" in place:
        return _zone("/".join(_titled(part) for part in place.split("/")))
    if known := _PLACES.get(place):
        return _zone(known)
    if place == name:
        return None
    city = _titled(place)
    return next((zone for region in _REGIONS.split() if (zone := _zone(f"{region}/{city}"))), None)


def _titled(place: str) -> str:
    """A part of a zone's name as `zoneinfo` spells it: New_York, Port_of_Spain."""
    words = re.split(r"[ _]", place)
    return "_".join(w if w in ("of", "es", "au") else w.capitalize() for w in words)


def _zone(key: str) -> tzinfo | None:
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, KeyError):  # no such zone, or no data of it on this machine
        return None
