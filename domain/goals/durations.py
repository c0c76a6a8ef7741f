"""How long the job may run, and how soon it must be done ("within 6 hours")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from domain.errors import InvalidInput
from domain.goals.text import DIGITS, IN_WORDS, number
from domain.jobs import MINUTES_PER_HOUR

LONGEST_JOB_HOURS: Final = 24 * 30
LONGEST_SPAN: Final = timedelta(days=366)

_I: Final = re.IGNORECASE
_UNIT: Final = r"minutes?|mins?|hours?|hrs?|h|days?|weeks?"
_DURATION: Final = re.compile(
    rf"(?<![\w.,$:/])(?:(?P<clock>[0-9]{{1,3}}:[0-5][0-9])\s*(?=h)|(?P<n>{DIGITS}(?:\s+and\s+a\s+half)?|{IN_WORDS}|half\s+an?|a\s+couple\s+(?:of\s+)?|an?)[\s-]*)"
    rf"(?P<gpu>(?:gpu|[a-z]{{1,3}}[0-9]{{2,4}}[a-z]?)[\s-]*)?(?P<unit>{_UNIT})(?:(?P<rest>[0-9]{{1,2}})(?:\s?m(?:ins?)?)?)?(?!\w)"
    r"(?P<half>\s+and\s+a\s+half\b)?",
    _I,
)
_SHORT: Final = re.compile(r"\s*(?:and\s+|,\s*)?(?P<n>[0-9]{1,2})\s?(?:m|mins?|minutes?)\b", _I)
_WITHIN: Final = re.compile(
    r"\b(?:within|in)(?:\s+(?:the\s+)?(?:next|coming|less than|under|at most|about|around))*\s*$",
    _I,
)
_STARTING: Final = re.compile(r"\s*(?:start|begin|launch)\w*\b", _I)
"""Follows "in 2 hours" where this is when to begin, not a deadline."""
_ELSE: Final = re.compile(
    r"(?:\b(?:every|each|per|once|twice|last|past|previous|times|first|after)|/)\s*$", _I
)
_MINUS: Final = re.compile(r"(?:^|[\s(,;:])-$")
"""A minus: right before the number and after a space; else it is a dash or a range."""
_AGO: Final = re.compile(r"\s*(?:ago|old|each|apart|later)\b", _I)
_MATERIAL: Final = re.compile(
    r"\s*(?:worth\s+)?of\s+(?:(?!for\b|on\b|to\b|with\b)[\w-]+\s+){0,2}?(?:audio|videos?|podcasts?|"
    r"speech|footage|music|films?|recordings?|meetings?|calls?|interviews?|lectures?|tapes?|episodes?)"
    r"\b(?!-|\s+(?:[\w-]+\s+){0,2}?(?:generat|render|train\w*|inferenc|process|transcod|upscal|edit|"
    r"synthes|diffus|recogni|benchmark|restor|encod))",
    _I,
)
"""A length of material, not of the job: "100 hours of podcasts"."""


@dataclass(frozen=True, slots=True)
class Durations:
    """minutes: the job's length, if said. within: the time until it must be done, if said."""

    minutes: int | None
    within: timedelta | None
    gpu_hours: bool = False
    """True when the length was given in GPU-hours, of all GPUs together."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where the text says the durations that count."""


def read_durations(text: str, without: Sequence[tuple[int, int]] = ()) -> Durations:
    """The first of each kind. without: spans of the text that are no durations, like "$2 an hour".

    Raises InvalidInput for a length that cannot be rented.
    """
    length: int | None = None
    within: timedelta | None = None
    gpu_hours = False
    spans: list[tuple[int, int]] = []
    for found in _DURATION.finditer(text):
        before = text[: found.start()]
        spoken_for = any(start <= found.start() < end for start, end in without)
        of_else = _AGO.match(text, found.end()) or _MATERIAL.match(text, found.end())
        if spoken_for or _ELSE.search(before) or of_else:
            continue
        minutes = _minutes(text, found)
        if minutes is None:
            continue
        if _MINUS.search(before):
            minutes = -minutes
        if lead := _WITHIN.search(before):
            if _STARTING.match(text, found.end()):
                continue
            if within is None and 0 < minutes <= LONGEST_SPAN.total_seconds() / 60:
                within = timedelta(minutes=float(minutes))
                spans.append((lead.start(), found.end()))
        elif length is None:
            length = _usable(round(minutes), ("-" if minutes < 0 else "") + found[0])
            gpu_hours = bool(found["gpu"])
            short = _SHORT.match(text, found.end())
            spans.append((found.start(), short.end() if short else found.end()))
    return Durations(length, within, gpu_hours, tuple(spans))


def _minutes(text: str, found: re.Match[str]) -> Decimal | None:
    if found["clock"]:
        hours, _, rest = found["clock"].partition(":")
        return Decimal(int(hours) * 60 + int(rest))
    written = re.sub(r"\s+", " ", found["n"].lower()).strip()
    if written.startswith("half"):
        amount: Decimal | None = Decimal("0.5")
    elif written.startswith("a couple"):
        amount = Decimal(2)
    else:
        amount = Decimal(1) if written in ("a", "an") else number(written)
    if amount is None:
        return None
    amount = min(amount, Decimal(10**9)) + (Decimal("0.5") if found["half"] else 0)
    unit = found["unit"].lower()
    per_unit = 1 if unit.startswith("m") else 60 * {"d": 24, "w": 168}.get(unit[0], 1)
    minutes = amount * per_unit
    if unit.startswith("h"):
        more = _SHORT.match(text, found.end())
        minutes += int(found["rest"] or (more["n"] if more else 0))
    return minutes


def _usable(minutes: int, written: str) -> int:
    if not 1 <= minutes <= LONGEST_JOB_HOURS * MINUTES_PER_HOUR:
        raise InvalidInput(
            "goal", f"{written!r} is not a usable duration", "Name 1 minute to 30 days"
        )
    return minutes
