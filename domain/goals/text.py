"""A goal as text: what is usable, and numbers in it, in digits or in words."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Final

from domain.errors import InvalidInput

LONGEST_GOAL: Final = 4_000
"""Characters."""

_UP_TO_TWENTY: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_ONES: Final = tuple(_UP_TO_TWENTY.split())
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES: Final = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 1_000_000}
_WORD: Final = "|".join(sorted((*_ONES, *_TENS, *_SCALES), key=len, reverse=True))

DIGITS: Final = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
IN_WORDS: Final = (
    rf"(?:an?\s+(?=dozen|hundred|thousand|million))?\b(?:{_WORD})"
    rf"(?:(?:\s+and\s+|[\s-]+)(?:{_WORD})){{0,8}}\b(?:\s+and\s+a\s+half)?"
)
NUMBER: Final = rf"(?:{DIGITS}|{IN_WORDS})"


def one_of(*alternatives: str) -> str:
    """A regular expression for any of these, tried in this order."""
    return f"(?:{'|'.join(alternatives)})"


def any_word(words: str) -> str:
    """A regular expression for any of these, which spaces part, tried in this order."""
    return one_of(*words.split())


def check_goal(goal: object) -> str:
    """The goal, stripped of space and control characters. Raises InvalidInput."""
    if not isinstance(goal, str):
        raise InvalidInput("goal", "it is not text", 'Say what to do, like "Fine-tune on an A100"')
    if len(goal) > LONGEST_GOAL:
        raise InvalidInput("goal", f"it is longer than {LONGEST_GOAL:,} characters", "Shorten it")
    clean = "".join(c if c.isprintable() else " " for c in goal).strip()
    if not clean:
        raise InvalidInput("goal", "it is empty", 'Say what to do, like "Fine-tune on an A100"')
    return clean


def plain(text: str) -> str:
    """The text as the readers take it: one form for each character, straight quotes, one minus,
    one space."""
    spelled = _SMALL.sub(_in_digits, text[:LONGEST_GOAL]).replace(_SLASH, "/")
    folded = unicodedata.normalize("NFKC", spelled).translate(_SIGNS)
    folded = _CENTS.sub(lambda amount: amount[0].replace(",", "."), folded)
    return re.sub(r"\s+", " ", folded).strip()


_CENTS: Final = re.compile(
    r"(?<![\w.,$€£])[0-9]{1,6},[0-9]{2}(?=\s?(?:usdc?|dollars?|bucks?|€|£|euros?|eur|gbp)\b|\s?[€£$])",
    re.I,
)
"""An amount with a decimal comma, as in "5,50 USD"; "$5,50" may be two numbers."""

_SLASH: Final = "\N{FRACTION SLASH}"
_SMALL: Final = re.compile(
    r"(?P<whole>[0-9]\s?)?(?P<sign>[^\W0-9A-Za-z_])|(?P<raised>[⁰¹²³⁴-⁹₀-₉])"
)


def _in_digits(found: re.Match[str]) -> str:
    """A fraction of one sign as decimals, "2½" as "2.5"; a footnote's digit as a space."""
    sign = found["sign"]
    if sign is None:
        return " "
    if unicodedata.category(sign) != "No":
        return found[0]
    value = unicodedata.numeric(sign)
    if not 0 < value < 1:
        return f"{found['whole'] or ''} "
    decimals = f"{value:.3f}".rstrip("0")
    whole = (found["whole"] or "").strip()
    return whole + decimals[1:] if whole else decimals


_SIGNS: Final = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\N{MINUS SIGN}": "-"})


def number(written: str) -> Decimal | None:
    """The value of what NUMBER matched; None for words that make no number, like "two five"."""
    words = re.sub(r"\s+and\s+a\s+half$", "", written, flags=re.I).lower()
    half = Decimal("0.5") if words != written.lower() else Decimal(0)
    if re.fullmatch(DIGITS, words):
        return Decimal(words.replace(",", "")) + half
    total, part, last = 0, 0, ""
    for word in re.split(r"[\s-]+(?:and\s+)?", words):
        if word in _SCALES:
            if last == "scale" and part == 0:
                return None
            scale, part = _SCALES[word], part or 1
            total, part, last = (
                (total, part * scale, "scale")
                if scale <= 100
                else (total + part * scale, 0, "scale")
            )
        elif word in _TENS:
            if last in ("ones", "tens"):
                return None
            part, last = part + 10 * (_TENS.index(word) + 2), "tens"
        elif word in _ONES:
            value = _ONES.index(word)
            if last == "ones" or (last == "tens" and not 1 <= value <= 9):
                return None
            part, last = part + value, "ones"
    return Decimal(total + part) + half
