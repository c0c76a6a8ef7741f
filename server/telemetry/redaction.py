"""What a log must not hold, masked on its way there: for whatever a library, or we, let slip.

It is the last net, not the rule: no secret is to be logged in the first place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final

from pydantic import SecretStr

from server.config.settings import Settings

MASK: Final = "[masked]"
SHORTEST_SECRET: Final = 8
"""A configured secret that is shorter would mask ordinary words."""

_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-\"]*(-----END [A-Z ]*PRIVATE KEY-----)?"),
        MASK,
    ),
    (re.compile(r"\b(gr_[a-z2-7]{12})_[A-Za-z0-9_-]{20,}"), rf"\1_{MASK}"),
    (re.compile(r"\b(whsec|fw|sk)_[A-Za-z0-9+/=_-]{16,}"), rf"\1_{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)\b(x-payment|payment-signature|authorization|cookie|webhook-signature)"
            r"(['\"]?\s*[:=,]\s*b?['\"]?)(?!bearer|basic)[^\s'\",;)\]}]{8,}"
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"([a-z][a-z0-9+.-]{1,20}://)[^\s/@\"']+@"), rf"\1{MASK}@"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:[.=+/A-Za-z0-9_-]*)"), MASK),
    (re.compile(r"\b0x[0-9a-fA-F]{130}\b"), MASK),
    (
        re.compile(
            r"(?i)(\b(?:in|tx|hash|nonce|sha256|transaction)"
            r"[\"']?[ =:]+[\"']?(?:0x)?[0-9a-f]{64}\b)"
            r"|(?<![0-9a-z])(?:0x)?[0-9a-f]{64}(?![0-9a-z])"
        ),
        "",
    ),
)
"""Private keys, our keys, others' keys, credentials in headers and addresses, signed payments
(base64 of JSON), signatures, and 64 hex digits that are not named a transaction, hash or nonce.
"""


def _unless_named(found: re.Match[str]) -> str:
    return found[1] or MASK


class Redactor:
    """Masks what looks like a secret, and the configured ones wherever they stand."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted({s for s in secrets if len(s) >= SHORTEST_SECRET}, key=len)[::-1]
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of(cls, settings: Settings) -> Redactor:
        """One that knows every secret of the settings."""
        values = [getattr(settings, name) for name in type(settings).model_fields]
        values += settings.vendor_secrets.values()
        return cls(v.get_secret_value() for v in values if isinstance(v, SecretStr))

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, masked in _PATTERNS:
            text = pattern.sub(masked or _unless_named, text)
        return text


class Redacting(logging.Formatter):
    """A formatter whose lines, tracebacks included, go through a Redactor."""

    def __init__(self, inner: logging.Formatter, redact: Redactor) -> None:
        super().__init__()
        self._inner = inner
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(self._inner.format(record))
