"""Marking words of vendors and users as data, wherever a model reads them."""

from __future__ import annotations

import json


def fence(value: object) -> str:
    """`value` as JSON between data marks, which it cannot contain itself."""
    text = json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")
    return f"<data>{text}</data>"
