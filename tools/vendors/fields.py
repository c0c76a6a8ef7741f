"""Typed reading of one JSON object from a vendor.

Each reader raises Unreadable, naming the field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar, overload

from domain.errors import InvalidInput
from domain.money import Usd
from tools.wire.untrusted import Unreadable, clean_text, is_plain_id

SHORTEST_SECRET: Final = 8
"""Characters. A shorter one is a word that occurs by chance."""

Choice = TypeVar("Choice", bound=StrEnum)


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


@dataclass(frozen=True, slots=True)
class Fields:
    """`data` as decoded; `secrets` are blotted out of every text that is read from it."""

    data: Mapping[str, object]
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def identifier(self, name: str) -> str:
        """A required id, kept exactly: printable ASCII without spaces, at most 200 characters."""
        value = self.data.get(name)
        if not isinstance(value, str) or not is_plain_id(value):
            raise self._wrong(name, "an identifier")
        if self.repeats_a_secret(value):
            raise Unreadable(f"{name} repeats our secret")
        return value

    def repeats_a_secret(self, text: str) -> bool:
        """Whether `text`, which is to be kept exactly, has one of `secrets` in it."""
        return any(secret in text for secret in self.secrets if len(secret) >= SHORTEST_SECRET)

    def text(self, name: str, limit: int) -> str | None:
        """An optional text as one harmless line; None when missing."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return clean_text(value, limit, self.secrets)

    def choice(self, name: str, choices: type[Choice]) -> Choice:
        """A required word out of `choices`."""
        value = self.data.get(name)
        if isinstance(value, str) and value in {str(choice) for choice in choices}:
            return choices(value)
        raise self._wrong(name, "one of " + ", ".join(str(choice) for choice in choices))

    def number(self, name: str, *, low: float, high: float) -> float | None:
        """An optional number from `low` to `high`; None when missing."""
        value = self.data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number")
        if not low <= value <= high:
            raise self._wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def money(self, name: str) -> Usd | None:
        """An optional amount in dollars; None when missing.

        A JSON number is rounded to the micro-dollar, because vendors multiply prices in floating
        point (3 × 1.4 arrives as 4.199999999999999); text must be exact.
        """
        value = self.data.get(name)
        if value is None:
            return None
        if isinstance(value, float) and math.isfinite(value):
            value = round(value, 6)
        try:
            return Usd.parse(value, name)
        except InvalidInput:
            raise self._wrong(name, "an amount in dollars") from None

    def time(self, name: str) -> datetime | None:
        """An optional ISO 8601 time, in UTC (assumed when it has no zone); None when missing."""
        value = self.data.get(name)
        if value is None:
            return None
        try:
            if not isinstance(value, str) or len(value) > 64:
                raise ValueError
            at = datetime.fromisoformat(value)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._wrong(name, "an ISO 8601 time") from None

    def object(self, name: str) -> Fields | None:
        """An optional nested object; None when missing."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Fields(value, self.secrets)

    def lines(self, name: str, *, most: int, longest: int) -> Lines:
        """A required list of texts: the first `most`, each cut to `longest` characters."""
        value = self.data.get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list of texts")
        lines = value[:most]
        if any(kind is not str for kind in set(map(type, lines))):
            raise self._wrong(name, "a list of texts")
        return Lines(lines, longest, self.secrets)

    def _wrong(self, name: str, wanted: str) -> Unreadable:
        got = self.data.get(name)
        if got is None:
            return Unreadable(f"{name} is missing")
        return Unreadable(f"{name} is not {wanted}")
