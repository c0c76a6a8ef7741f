"""An HTTP client for a library that reads whatever it is sent: it hands on small, plain answers.

The body is bounded and uncompressed, redirects are not followed, and the text of an error stays
here: it may repeat the request, and with it a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tools.wire.exchange import read_body
from tools.wire.untrusted import parse_object

Check = Callable[[Mapping[str, object]], None]
"""Raises Unreadable for an object that the library should not see."""


class BoundedClient(httpx.AsyncClient):
    """`httpx.AsyncClient` whose JSON answers are objects of at most `most_bytes`, and checked."""

    def __init__(self, most_bytes: int, check: Check, **options: Any) -> None:
        super().__init__(follow_redirects=False, **options)
        self._most_bytes = most_bytes
        self._check = check
        self.headers["Accept-Encoding"] = "identity"

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As the base class does, with the body read already.

        Raises Unreadable for a body that is too large, compressed, or not a JSON object.
        """
        request.headers.pop("cookie", None)
        options |= {"stream": True, "follow_redirects": False}
        response = await super().send(request, **options)
        try:
            body = await read_body(response, self._most_bytes)
        finally:
            await response.aclose()
        if not response.is_success:
            return httpx.Response(response.status_code, content=b"", request=request)
        kind = response.headers.get("content-type", "application/json")
        if not kind.startswith("text/event-stream"):
            self._check(parse_object(body))
        headers = {"content-type": kind}
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)
