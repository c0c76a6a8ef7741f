"""Reading what a peer that may be hostile sent: strict JSON, harmless text."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

DEEPEST_JSON: Final = 32
MOST_CONTAINERS: Final = 20_000
"""Objects and lists in one answer: each costs the decoder a hundred times its bytes."""
MOST_TEXTS: Final = 500_000
LONGEST_LOOK: Final = 8
"""How many times its limit is read of a text, before white space is taken out."""

_STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""Possessive, and a string may lack its end, so that no input makes it scan twice."""


_HALF_CHARACTER: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escape that may stand for one: a pair of them is a whole character."""


class Unreadable(ValueError):
    """What came is not what the protocol says. The text is for a person and holds no secret."""


def parse_json(data: bytes) -> object:
    """The JSON value in `data`: UTF-8, no NaN or infinity, no lone surrogates, not too deep, and
    not of too many pieces.

    Raises Unreadable for anything else, whatever the bytes.
    """
    _check_shape(data)
    try:
        value = json.loads(
            data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite
        )
    except Unreadable:
        raise
    except (ValueError, RecursionError):
        raise Unreadable("the answer is not JSON") from None
    if _HALF_CHARACTER.search(data):  # UTF-8 itself has none
        _check_characters(value)
    return value


def parse_object(data: bytes) -> Mapping[str, object]:
    """The JSON object in `data`; Unreadable as for `parse_json`, and for any other value."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise Unreadable("the answer is not a JSON object")
    return value


def clean_text(text: str, limit: int, secrets: tuple[str, ...] = ()) -> str:
    """`text` as one harmless line of at most `limit` characters.

    Control, formatting (right-to-left marks and the like) and surrogate characters become spaces,
    runs of white space one space; any of `secrets` that the peer echoes is blotted out.
    """
    shown = text
    for secret in secrets:
        shown = shown.replace(secret, "[secret]")
    shown = shown[: LONGEST_LOOK * limit]
    if not shown.isprintable():
        shown = shown.translate(_HARMLESS)
    line = " ".join(shown.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def is_plain_id(text: str, limit: int = 200) -> bool:
    """Whether `text` is a usable identifier: 1 to `limit` printable ASCII characters, no spaces."""
    return 0 < len(text) <= limit and all("!" <= char <= "~" for char in text)


class _Harmless(dict[int, int]):
    """A character → itself, or a space in the place of one that does harm. Fills itself."""

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        harmful = category[0] == "C" or category in ("Zl", "Zp")
        shown = ord(" ") if harmful else code
        if code <= _MOST_KEPT:
            self[code] = shown
        return shown


_MOST_KEPT: Final = 0xFFFF
"""What is rarer is looked up each time: nobody's text is to fill our memory."""
_HARMLESS: Final = _Harmless()


def _refuse_constant(name: str) -> object:
    raise Unreadable(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unreadable("the answer's JSON holds a number that is not finite")
    return number


def _check_shape(data: bytes) -> None:
    """Raise Unreadable for deep nesting, before the decoder recurses, and for so many pieces that
    decoding them would keep everybody else waiting.

    Where some library has raised Python's recursion limit (py-evm does), deep JSON does not raise
    in the decoder: it overflows the stack and kills the process.
    """
    if data.count(b"[") + data.count(b"{") <= DEEPEST_JSON:
        return
    depth = containers = 0
    for number, token in enumerate(_STRING_OR_BRACKET.finditer(data)):
        if containers > MOST_CONTAINERS or number > MOST_TEXTS:
            raise Unreadable("the answer's JSON is of too many pieces")
        if token[0] in (b"[", b"{"):
            containers += 1
            depth += 1
            if depth > DEEPEST_JSON:
                raise Unreadable(f"the answer's JSON is nested more than {DEEPEST_JSON} deep")
        elif token[0] in (b"]", b"}"):
            depth -= 1


def _check_characters(value: object) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unreadable("the answer's JSON holds half a character") from None
    elif isinstance(value, list):
        for item in value:
            _check_characters(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_characters(key)
            _check_characters(item)
