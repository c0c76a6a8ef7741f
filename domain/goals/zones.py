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

_I: Final = re.IGNORECASE
_HOURS: Final = {
    "utc": 0,
    "gmt": 0,
    "z": 0,
    "bst": 1,
    "wet": 0,
    "west": 1,
    "cet": 1,
    "cest": 2,
    "eet": 2,
    "eest": 3,
    "msk": 3,
    "est": -5,
    "edt": -4,
    "cst": -6,
    "cdt": -5,
    "mst": -7,
    "mdt": -6,
    "pst": -8,
    "pdt": -7,
    "akst": -9,
    "hst": -10,
    "ist": 5.5,
    "pkt": 5,
    "sgt": 8,
    "hkt": 8,
    "awst": 8,
    "jst": 9,
    "kst": 9,
    "aest": 10,
    "aedt": 11,
    "nzst": 12,
    "nzdt": 13,
}
AMBIGUOUS: Final = frozenset(("bst", "cst", "ist"))
_PLACES: Final = {
    "et": "America/New_York",
    "eastern": "America/New_York",
    "ct": "America/Chicago",
    "central": "America/Chicago",
    "mt": "America/Denver",
    "mountain": "America/Denver",
    "pt": "America/Los_Angeles",
    "pacific": "America/Los_Angeles",
    "boston": "America/New_York",
    "washington": "America/New_York",
    "miami": "America/New_York",
    "atlanta": "America/New_York",
    "austin": "America/Chicago",
    "dallas": "America/Chicago",
    "houston": "America/Chicago",
    "seattle": "America/Los_Angeles",
    "san francisco": "America/Los_Angeles",
    "california": "America/Los_Angeles",
    "munich": "Europe/Berlin",
    "frankfurt": "Europe/Berlin",
    "hamburg": "Europe/Berlin",
    "cologne": "Europe/Berlin",
    "german": "Europe/Berlin",
    "central european": "Europe/Berlin",
    "barcelona": "Europe/Madrid",
    "milan": "Europe/Rome",
    "geneva": "Europe/Zurich",
    "uk": "Europe/London",
    "british": "Europe/London",
    "mumbai": "Asia/Kolkata",
    "delhi": "Asia/Kolkata",
    "bangalore": "Asia/Kolkata",
    "bengaluru": "Asia/Kolkata",
    "india": "Asia/Kolkata",
    "indian": "Asia/Kolkata",
    "beijing": "Asia/Shanghai",
    "shenzhen": "Asia/Shanghai",
    "china": "Asia/Shanghai",
    "japan": "Asia/Tokyo",
    "korea": "Asia/Seoul",
    "canberra": "Australia/Sydney",
}
_REGIONS: Final = (
    "Europe",
    "America",
    "Asia",
    "Africa",
    "Australia",
    "Pacific",
    "Atlantic",
    "Indian",
)

ZONE: Final = (
    r"(?:(?:utc|gmt)\s?[+-]\s?[0-9]{1,2}(?::?[0-9]{2})?(?![0-9])|"
    r"[a-z]{3,20}/[a-z_]{3,20}(?:/[a-z_]{3,20})?|"
    r"(?:[a-z]+[ _])?[a-z]+\s+time|"
    rf"(?:{'|'.join(_HOURS)}|[ecmp]t))\b(?!\.\s*[a-z0-9$])"
)
"""A regular expression for what may be a zone; `zone_of` knows whether it is one."""


def zone_of(written: str) -> tzinfo | None:
    """The zone that is meant; None for what is none, like "real time"."""
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
    return next((zone for region in _REGIONS if (zone := _zone(f"{region}/{city}"))), None)


def _titled(place: str) -> str:
    """A part of a zone's name as `zoneinfo` spells it: New_York, Port_of_Spain."""
    words = re.split(r"[ _]", place)
    return "_".join(w if w in ("of", "es", "au") else w.capitalize() for w in words)


def _zone(key: str) -> tzinfo | None:
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, KeyError):  # no such zone, or no data of it on this machine
        return None
