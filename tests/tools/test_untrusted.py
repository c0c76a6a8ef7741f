"""What a hostile peer may send us costs little to refuse, and its text is harmless."""

from __future__ import annotations

import json

import pytest

from tools.wire.untrusted import (
    DEEPEST_JSON,
    MOST_CONTAINERS,
    MOST_TEXTS,
    Unreadable,
    clean_text,
    parse_json,
    parse_object,
)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" * (DEEPEST_JSON + 1) + b"]" * (DEEPEST_JSON + 1), "nested"),
        (b"[" + b"{}," * (MOST_CONTAINERS + 2) + b"0]", "too many pieces"),
        (b"[" + b"[]," * 40 + b'"",' * (MOST_TEXTS + 2) + b"0]", "too many pieces"),
        (b'["\\ud800"]', "half a character"),
        (b'{"a": {"\\udc00": 1}}', "half a character"),
        (b"NaN", "NaN"),
        (b"1e999", "not finite"),
        (b"\xff", "not JSON"),
    ],
)
def test_what_no_peer_needs_to_send_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parse_json(body)


def test_a_long_log_with_brackets_in_it_is_read() -> None:
    report = {"logs": [f"[12:00:{n:06d}] {{step}} 😀" for n in range(60_000)]}

    assert parse_object(json.dumps(report).encode()) == report


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\u202ec\n\td", "a [31mb c d"),
        ("  a \u2028 b\U000e0001c", "a b c"),
        ("key: hunter2!", "key: [secret]!"),
        ("x" * 30, "x" * 19 + "…"),
        (" " * 10_000 + "late", ""),
        ("\x00" * 150 + "hunter2" * 3, "[secret][s"),
    ],
)
def test_text_becomes_one_harmless_line(text: str, shown: str) -> None:
    assert clean_text(text, 20, ("hunter2",)) == shown
