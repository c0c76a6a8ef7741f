"""Marking words of vendors and users as data, wherever a model reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tools.wire.untrusted import clean_text

LONGEST_TEXT: Final = 8_000
"""Characters of one text between the marks, as JSON writes it: `é` takes six of them."""
LONGEST_FIELD: Final = 200
"""The same in a tool's answer."""
LONGEST_ANSWER: Final = 1_200
"""Characters of a tool's whole answer."""


def fence(value: object, longest: int = LONGEST_TEXT) -> str:
    """`value` as JSON between data marks, which it cannot contain itself.

    Texts in it are cleaned of control characters and cut to `longest`.
    """
    text = json.dumps(_cleaned(value, longest), separators=(",", ":")).replace("<", "\\u003c")
    return f"<data>{text}</data>"


def fence_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first rows that fit into a tool's answer, fenced; and how many do not."""
    kept = list(rows)
    while len(shown := fence(kept, LONGEST_FIELD)) > LONGEST_ANSWER and kept:
        kept.pop()
    left_out = len(rows) - len(kept)
    return f"{shown} and {left_out} more, not shown" if left_out else shown


def _cleaned(value: object, longest: int) -> object:
    if isinstance(value, str):
        return cut(clean_text(value, longest), longest)
    if isinstance(value, Mapping):
        return {str(name): _cleaned(part, longest) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(part, longest) for part in value]
    return value


def cut(text: str, longest: int) -> str:
    """The beginning of `text` that JSON writes in at most `longest` ASCII characters."""
    size = 0
    for at, char in enumerate(text):
        size += len(json.dumps(char)) - 2 + (5 if char == "<" else 0)
        if size > longest:
            return text[:at]
    return text
