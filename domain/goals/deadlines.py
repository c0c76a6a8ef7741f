"""By when the job must be done.

Times of day are in the time zone of `now`, unless the text names another. A day without a time
means its end (23:59), "before" a day its beginning; morning is 09:00, noon 12:00, afternoon 17:00,
evening 20:00, night 23:59. A time without a day is the next such time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

from domain.goals.text import any_word
from domain.goals.zones import ZONE, zone_of

END: Final = time(23, 59)
LONGEST_WAIT: Final = timedelta(days=367)
_I: Final = re.IGNORECASE
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec"
_PARTS: Final = {
    "morning": time(9),
    "noon": time(12),
    "lunch": time(12),
    "lunchtime": time(12),
    "midday": time(12),
    "afternoon": time(17),
    "evening": time(20),
    "night": END,
}
_MONTH: Final = rf"{any_word(_MONTHS)}[a-z]*\.?"
_COUNTED: Final = r"\s*(?:-|usdc?\b|dollars?|bucks|steps|epochs|images|samples|tokens|context)"
_YEAR: Final = rf"20[2-9][0-9]\b(?!:|{_COUNTED})"

_CUE: Final = re.compile(
    r"\b(?:by|before|until|till|no later than|not later than|due(?: on| by)?|latest|"
    r"deadline(?:\s+is|\s*:)?(?:\s+by)?)\s+|\bdeadline:\s*",
    _I,
)
_UNCUED: Final = re.compile(r"\b(?:tonight|today|end of (?:the )?day|eod)\b(?!')", _I)
_PAST: Final = re.compile(
    r"\b(?:by|before|until|till|due|done|finish(?:ed)?|ready)\s+(?:[\w:.]+\s+){0,2}?"
    r"(yesterday|last\s+(?:night|week|month|year|[a-z]{3,6}day))\b(?!')",
    _I,
)
_STARTS: Final = re.compile(
    r"\b(?:start\w*|begin\w*|from|since|as of|launch\w*|wait\w*|kick\w*\s+off)\s+"
    r"(?:(?:it|this|the\s+\w+|only|training|working|running)\s+){0,2}$",
    _I,
)
_NOT_BEFORE: Final = re.compile(
    r"(?:\b(?:not|never|no(?:t any)? (?:earlier|sooner))|n't(?:\s+\w+){0,3})\s+$", _I
)
_THEN_STARTS: Final = re.compile(
    r"\s+(?:start|begin|launch|kick[\s-]?off)\w*\b"
    r"(?!\s+(?:now|right|immediately|asap|at once|today|straight)\b)",
    _I,
)
_TOKEN: Final = re.compile(
    r"(?P<fill>[,()]|\b(?:on|at|the|of|in|latest|around|about|this|coming)\b)|"
    r"(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?"
    r"(?:\s?Z|[+-][0-9]{2}:?[0-9]{2})?)(?![\w-])|"
    r"(?P<ampm>[0-9]{1,2}(?::[0-9]{2})?\s?[ap]\.?m\b\.?)|(?P<clock>[0-9]{1,2}:[0-9]{2})(?![\d:])|"
    r"(?P<oclock>[0-9]{1,2})\s?o'?clock\b|"
    r"\b(?P<near>today|tonight|tomorrow)\b|\b(?P<midnight>midnight)\b|"
    r"\b(?P<close>eod|cob|end of (?:the )?(?:day|week|month)|(?:the )?weekend)\b|"
    rf"\b(?P<part>{'|'.join(_PARTS)})\b|"
    rf"\b(?P<next>next\s+)?(?P<day>{'|'.join(_DAYS)})(?:[a-z]*day)?\b|"
    rf"\b(?P<month>{_MONTH})\s+(?P<date>[0-9]{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<year>{_YEAR}))?|"
    rf"\b(?P<date2>[0-9]{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month2>{_MONTH})(?!\w)"
    rf"(?:,?\s+(?P<year2>{_YEAR}))?|"
    rf"(?<![\w/])(?P<zone>{ZONE})",
    _I,
)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline in a text; at is None where it has none, or `doubt` says why not."""

    at: datetime | None
    doubt: str = ""
    span: tuple[int, int] | None = None
    """Where the text says it; None where it says a span of time."""


@dataclass(slots=True)
class _Parts:
    day: datetime | None = None
    time: time | None = None
    exact: datetime | None = None
    zone: tzinfo | None = None
    midnight: bool = False
    found: bool = False
    end: int = 0
    """Where the last of it ends in the text."""


def read_deadline(text: str, now: datetime, within: timedelta | None = None) -> Deadline:
    """The deadline in the text. now: aware. within: the span that the text gives until then."""
    try:
        deadline = _read(text, now, within)
        if deadline.at is None or deadline.at.astimezone(UTC) - now <= LONGEST_WAIT:
            return deadline
    except OverflowError:  # the last days of the year 9999
        pass
    return Deadline(None, "That is more than a year ahead")


def _read(text: str, now: datetime, within: timedelta | None) -> Deadline:
    if past := _PAST.search(text):
        return Deadline(None, f"{past[1].capitalize()} is over already")
    places = [
        (m.start(), m.end(), m[0].lower().startswith("before"))
        for m in _CUE.finditer(text)
        if not (m[0].lower().startswith("before") and _NOT_BEFORE.search(text[: m.start()]))
    ]
    places += [(m.start(), m.start(), False) for m in _UNCUED.finditer(text)]
    for start, place, before in places:
        if _STARTS.search(text[:start]):
            continue
        parts = _parts(text, place, now)
        if not parts.found or _THEN_STARTS.match(text, parts.end):
            continue
        at = _moment(parts, now, before)
        if at is None:
            continue
        if at <= now:
            return Deadline(None, f"{at:%Y-%m-%d %H:%M} is over already")
        return Deadline(at, span=(start, parts.end))
    return Deadline(now + within) if within else Deadline(None)


def when(text: str) -> Iterator[tuple[int, int]]:
    """Where the text names a moment, for any purpose: "tomorrow at 9am", "on Friday"."""
    now, behind = datetime(2026, 1, 1, tzinfo=UTC), 0
    for found in _TOKEN.finditer(text):
        if found.start() < behind or found["fill"] or found["zone"]:
            continue
        parts = _parts(text, found.start(), now)
        if parts.found:
            behind = parts.end
            yield found.start(), behind


def _parts(text: str, place: int, now: datetime) -> _Parts:
    tokens = list(_tokens(text, place))
    parts = _Parts()
    zone = next((zone for found in tokens if (zone := zone_of(found["zone"] or ""))), None)
    if zone:
        now = now.astimezone(zone)
        parts.zone = zone
    for found in tokens:
        _take(parts, found, now)
        if not found["fill"]:
            parts.end = found.end()
    return parts


def _tokens(text: str, place: int) -> Iterator[re.Match[str]]:
    space = re.compile(r"\s*")
    while gap := space.match(text, place):
        found = _TOKEN.match(text, gap.end())
        if not found or (found["zone"] and zone_of(found["zone"]) is None):
            return
        yield found
        place = found.end()


def _take(parts: _Parts, found: re.Match[str], now: datetime) -> None:
    said = {name: value for name, value in found.groupdict().items() if value}
    if "fill" in said or "zone" in said:
        return
    parts.found = True
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if "iso" in said:
        _take_iso(parts, said["iso"], now)
    elif "ampm" in said:
        parts.time = _half_day(said["ampm"]) or parts.time
    elif "clock" in said or "oclock" in said:
        parts.time = _time(*said.get("clock", said.get("oclock", "")).split(":")) or parts.time
    elif "near" in said:
        near = said["near"].lower()
        parts.day = today + timedelta(days=near == "tomorrow")
        parts.time = parts.time or (END if near == "tonight" else None)
    elif "midnight" in said:
        parts.midnight = True
    elif "close" in said:
        parts.day, parts.time = _close(said["close"].lower(), today)
    elif "part" in said:
        parts.time = _PARTS[said["part"].lower()]
    elif "day" in said:
        ahead = (_DAYS.index(said["day"].lower()) - today.weekday()) % 7
        parts.day = today + timedelta(days=ahead + (7 if "next" in said and ahead == 0 else 0))
    else:
        parts.day = _dated(
            said.get("month") or said["month2"],
            said.get("date") or said["date2"],
            said.get("year") or said.get("year2"),
            today,
        )


def _take_iso(parts: _Parts, written: str, now: datetime) -> None:
    try:
        at = datetime.fromisoformat(written.replace(" Z", "Z"))
    except ValueError:
        return
    if at.tzinfo:
        parts.exact = at
    elif len(written) > len("2026-01-01"):
        parts.exact = at.replace(tzinfo=now.tzinfo)
    else:
        parts.day = at.replace(tzinfo=now.tzinfo)


def _moment(parts: _Parts, now: datetime, before: bool) -> datetime | None:
    if parts.exact:
        return parts.exact
    if parts.zone:
        now = now.astimezone(parts.zone)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if parts.midnight:
        return (parts.day or today) + timedelta(days=1)
    if parts.day is None:
        if parts.time is None:
            return None
        at = today.replace(hour=parts.time.hour, minute=parts.time.minute)
        return at if at > now else at + timedelta(days=1)
    if parts.time is None and before:
        return parts.day if parts.day > now else parts.day + timedelta(days=7)
    clock = parts.time or END
    return parts.day.replace(hour=clock.hour, minute=clock.minute)


def _half_day(written: str) -> time | None:
    found = re.match(r"([0-9]+)(?::([0-9]+))?\s?([ap])", written, _I)
    assert found is not None, "the token has this form"
    hour = int(found[1])
    if not 1 <= hour <= 12:
        return None
    return _time(str(hour % 12 + (12 if found[3].lower() == "p" else 0)), found[2] or "0")


def _time(hour: str, minute: str = "0") -> time | None:
    return time(int(hour), int(minute)) if int(hour) < 24 and int(minute) < 60 else None


def _close(said: str, today: datetime) -> tuple[datetime, time | None]:
    if "weekend" in said:
        return today + timedelta(days=(5 - today.weekday()) % 7), time(0)
    if "week" in said:
        return today + timedelta(days=6 - today.weekday()), END
    if "month" in said:
        first = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
        return first - timedelta(days=1), END
    return today, END


def _dated(month: str, date: str, year: str | None, today: datetime) -> datetime | None:
    try:
        day = today.replace(
            year=int(year or today.year),
            month=_MONTHS.split().index(month[:3].lower()) + 1,
            day=int(date),
        )
        return day if year or day >= today else day.replace(year=day.year + 1)
    except ValueError:
        return None
