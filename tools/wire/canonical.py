"""One way to write a JSON body, so that the same order is the same bytes on every send."""

from __future__ import annotations

import json
from collections.abc import Mapping

from domain.errors import InvalidInput


def canonical_json(body: Mapping[str, object]) -> bytes:
    """`body` as JSON: sorted keys, no spaces, ASCII. Raises InvalidInput when it is not JSON."""
    try:
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput("job parameters", "they cannot be written as JSON") from None
    return text.encode("ascii")
