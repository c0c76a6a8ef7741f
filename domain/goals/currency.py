"""Money as it is written in a text: where it stands, and what it comes to in dollars."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from domain.goals.text import DIGITS, IN_WORDS, NUMBER, any_word, number
from domain.money import DECIMALS, LARGEST, Usd

_I: Final = re.IGNORECASE
_SCALE: Final = r"(?:\s?k\b|\s+(?:thousand|grand|million)\b)?"
_UNIT: Final = r"(?:usdc?|(?:us[\s-])?dollars?|dollar|bucks?|\$)"
_BEFORE: Final = re.compile(
    rf"(?<![\w$€£¥₹])(?:(?:us\s?)?\$\s?|usdc?\s*[:=]?\s*)({DIGITS})({_SCALE})"
    rf"(?![\w$%])(?:\s?(?:usdc?|dollars?)\b)?",
    _I,
)
_AFTER: Final = re.compile(
    rf"(?<![\w.,$€£¥₹/-])({NUMBER})({_SCALE})(?:[\s-]?({_UNIT}|cents?|¢)|(?<=[0-9])((?-i:c)))(?![\w])"
    r"(?:(?!\s?[0-9])|(?=\s?[0-9]{1,2}\s?(?:cents?|¢)))",
    _I,
)
_ONE: Final = re.compile(r"\b(half\s+)?(?:an?|one)\s+(?:single\s+)?(?:dollar|buck)\b", _I)
_FOREIGN_WORDS: Final = any_word(
    "euros? eur pounds? gbp quid yen yuan rupees? francs? chf cad aud usdt dai eth btc "
    "bitcoins? sats?"
)
_FOREIGN: Final = re.compile(
    rf"[€£¥₹]\s?{DIGITS}|"
    rf"(?<![\w.,$])(?:{NUMBER})\s?(?:[€£¥₹]|{_FOREIGN_WORDS}\b)|"
    r"\b(?:eur|gbp|chf)\s?[0-9.,]+|"
    rf"(?<=\w)\$\s?{DIGITS}",
    _I,
)
_VAGUE: Final = re.compile(r"\b(?:a few|a couple(?: of)?|some|several)\s+(?:bucks|dollars)\b", _I)
_CENTS: Final = re.compile(rf"\s*(?:,|and|&)?\s*({NUMBER})\s?(?:cents?|¢)(?!\w)", _I)
_A_NUMBER_MORE: Final = re.compile(rf"\s+(?:and\s+)?{IN_WORDS}(?!\s*\w)", _I)
_MORE_DIGITS: Final = re.compile(
    r"(?:[.,']?[0-9]|"
    r"\s[0-9]+(?!\s*[x×]|[\s-]*(?:h\b|hrs?|hours?|min|days?|gpus?|[a-z]+[0-9])|[0-9.]))",
    _I,
)
_COUNTS: Final = re.compile(
    r"[\s-]*(?:x\b|h\b|hrs?\b|hours?|min|days?|weeks?|gpus?|cards?|epochs?|gb\b)", _I
)
_OTHER_DOLLARS: Final = re.compile(
    r"\s?(?:cad|aud|nzd|sgd|hkd|twd|mxn|clp|cop|ars|eur|gbp|pesos?|"
    r"(?:canadian|australian|singapore|hong kong|new zealand|taiwan)\b)\b",
    _I,
)


def is_negative(text: str) -> bool:
    """Whether an amount is less than nothing, as it is written in plain text."""
    return text.lstrip("$ ").startswith("-")


def is_foreign(text: str) -> bool:
    """Whether a text is an amount of other money than dollars, and nothing else."""
    return bool(_FOREIGN.fullmatch(text))


def sums(text: str) -> Iterator[tuple[int, int, Usd | None]]:
    """(start, end, value) of what is written as money. They have no order and may overlap.

    None for the value where the writing has no one value in dollars.
    """
    for found in _BEFORE.finditer(text):
        if found[0][:4].lower() in ("usdc", "usd ", "usd:") and _COUNTS.match(text, found.end()):
            continue  # "in USDC 5 hours": the number belongs to what follows
        yield _valued(text, found, _scaled(found[1], found[2]))
    for found in _AFTER.finditer(text):
        value = _scaled(found[1], found[2])
        cents = found[4] or found[3].lower().startswith(("cent", "¢"))
        yield _valued(text, found, value / 100 if value is not None and cents else value)
    for found in _ONE.finditer(text):
        yield _valued(text, found, Decimal("0.5") if found[1] else Decimal(1))
    for pattern in (_FOREIGN, _VAGUE):
        for found in pattern.finditer(text):
            yield found.start(), found.end(), None


def _valued(text: str, found: re.Match[str], value: Decimal | None) -> tuple[int, int, Usd | None]:
    end = found.end()
    if value is not None and (cents := _CENTS.match(text, end)):
        more = number(cents[1])
        value = value + more / 100 if more is not None and more < 100 else None
        end = cents.end()
    elif _A_NUMBER_MORE.match(text, end):  # "a dollar fifty"
        value = None
    if _MORE_DIGITS.match(text, end) or _OTHER_DOLLARS.match(text, end):
        value = None
    if text[: found.start()].endswith("-") and not text[: found.start() - 1].strip(" ,"):
        value = None
    return found.start(), end, usd_of(value)


def _scaled(written: str, scale: str) -> Decimal | None:
    value, scale = number(written), scale.strip().lower()
    if value is None:
        return None
    return value * (1_000_000 if scale == "million" else 1_000 if scale else 1)


def usd_of(value: Decimal | None) -> Usd | None:
    """None for what is no amount above 0 of whole micro-dollars."""
    if value is None:
        return None
    micros = value.scaleb(DECIMALS)
    whole = micros == micros.to_integral_value() and 0 < micros <= LARGEST
    return Usd(int(micros)) if whole else None
