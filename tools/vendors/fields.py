"""What each field of a vendor's answer may hold: bounds, as annotations of tools/vendors/base.py.

A value outside them raises Unfit with the field's name. The validation context is a tuple of our
secrets: they are blotted out of texts, and refused where a text is kept exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeGuard, overload

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    Strict,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from domain.errors import InvalidInput
from domain.money import MICROS_PER_DOLLAR, Usd
from tools.wire.untrusted import clean_text, is_plain_id

HIGHEST_QUOTE: Final = Usd(1_000_000 * MICROS_PER_DOLLAR)
LONGEST_MINUTES: Final = 60 * 24 * 366
MOST_LOG_LINES: Final = 5_000
LONGEST_LOG_LINE: Final = 500
LONGEST_ERROR: Final = 500
LONGEST_URL: Final = 2_000
MOST_METRICS: Final = 64
LONGEST_METRIC: Final = 200
PROGRESS_SLACK: Final = 0.001
"""How far outside 0..1 rounding may put a progress before it counts as nonsense."""
SHORTEST_SECRET: Final = 8
"""Characters. A shorter one is a word that occurs by chance."""
LONGEST_TIME: Final = 64
_LARGEST_INTEGER: Final = 2**63 - 1

Primitive = str | int | float | bool | None


class Lines(Sequence[str]):
    """Texts of a vendor, each made harmless when it is read.

    A log comes whole with each poll, and only its new lines are read.
    """

    def __init__(self, texts: list[str], longest: int, secrets: tuple[str, ...] = ()) -> None:
        self._texts, self._longest, self._secrets = texts, longest, secrets

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return tuple(self._clean(text) for text in self._texts[index])
        return self._clean(self._texts[index])

    def _clean(self, text: str) -> str:
        return clean_text(text, self._longest, self._secrets)


def repeats_a_secret(text: str, secrets: tuple[str, ...]) -> bool:
    """Whether `text`, which is to be kept exactly, has one of `secrets` in it."""
    return any(secret in text for secret in secrets if len(secret) >= SHORTEST_SECRET)


def _wrong(problem: str) -> PydanticCustomError:
    return PydanticCustomError("unfit", "it {problem}", {"problem": problem})


def _plain(text: str, limit: int, what: str, info: ValidationInfo) -> str:
    if not is_plain_id(text, limit):
        raise _wrong(f"is not {what}")
    if repeats_a_secret(text, info.context or ()):
        raise _wrong("repeats our secret")
    return text


def _identifier(text: str, info: ValidationInfo) -> str:
    return _plain(text, 200, "an identifier", info)


def _url(text: str, info: ValidationInfo) -> str:
    return _plain(text, LONGEST_URL, "a URL", info)


def _error_text(text: str, info: ValidationInfo) -> str:
    return clean_text(text, LONGEST_ERROR, info.context or ())


def _claimed_id(value: object) -> str | None:
    return value if isinstance(value, str) and is_plain_id(value) else None


def _amount(value: object) -> Usd:
    """A JSON number is rounded to the micro-dollar, because vendors multiply prices in floating
    point (3 × 1.4 arrives as 4.199999999999999); text must be exact.
    """
    if isinstance(value, float) and math.isfinite(value):
        value = round(value, 6)
    try:
        return Usd.parse(value)
    except InvalidInput:
        raise _wrong("is not an amount in dollars") from None


def _price(price: Usd) -> Usd:
    if not price:
        raise _wrong("is zero")
    if price > HIGHEST_QUOTE:
        raise _wrong(f"is {price}, which is absurd")
    return price


def _time(value: object) -> datetime:
    try:
        if not isinstance(value, str) or len(value) > LONGEST_TIME:
            raise ValueError
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong("is not an ISO 8601 time") from None


def _lines(value: object, info: ValidationInfo) -> Lines:
    lines: list[Any] = value[:MOST_LOG_LINES] if isinstance(value, list) else [None]
    if any(kind is not str for kind in set(map(type, lines))):
        raise _wrong("is not a list of texts")
    return Lines(lines, LONGEST_LOG_LINE, info.context or ())


def _metrics(value: object, info: ValidationInfo) -> Mapping[str, Primitive]:
    """Of the first metrics: what is nested, or more than MongoDB can hold, is left out."""
    metrics: dict[str, Primitive] = {}
    if not isinstance(value, dict | None):
        raise _wrong("is not an object")
    for name, metric in list((value or {}).items())[:MOST_METRICS]:
        key = clean_text(name, LONGEST_METRIC, info.context or ())
        if isinstance(metric, str):
            metrics[key] = clean_text(metric, LONGEST_METRIC, info.context or ())
        elif metric is None or isinstance(metric, float) or _is_storable(metric):
            metrics[key] = metric
    return MappingProxyType(metrics)


def _is_storable(metric: object) -> TypeGuard[int]:
    return isinstance(metric, int) and abs(metric) <= _LARGEST_INTEGER


Identifier = Annotated[str, AfterValidator(_identifier)]
"""Kept exactly: printable ASCII without spaces, at most 200 characters."""
ClaimedId = Annotated[str | None, BeforeValidator(_claimed_id)]
"""The same where an id is only claimed: anything else becomes None."""
Url = Annotated[str, AfterValidator(_url)]
ErrorText = Annotated[str, AfterValidator(_error_text)]
"""One harmless line."""
Amount = Annotated[Usd, BeforeValidator(_amount)]
Price = Annotated[Amount, AfterValidator(_price)]
Minutes = Annotated[float, Strict(), Field(ge=0, le=LONGEST_MINUTES)]
Progress = Annotated[
    float,
    Strict(),
    Field(ge=-PROGRESS_SLACK, le=1 + PROGRESS_SLACK),
    AfterValidator(lambda progress: min(max(progress, 0.0), 1.0)),
]
Time = Annotated[datetime, BeforeValidator(_time)]
"""ISO 8601, in UTC, which is assumed where it names no zone."""
Log = Annotated[Sequence[str], PlainValidator(_lines)]
Metrics = Annotated[Mapping[str, Primitive], PlainValidator(_metrics)]
