"""A vendor's answers, changed on their way to the agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

Rewrite = Callable[[str, dict[str, Any]], dict[str, Any] | None]
"""(path, answer) → what the agent gets instead, or None to leave it as it is."""


class Rewritten(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, rewrite: Rewrite) -> None:
        self._inner = inner
        self._rewrite = rewrite

    def changed(self, request: httpx.Request, answer: dict[str, Any]) -> dict[str, Any] | None:
        """What the agent gets instead of `answer`, or None to leave it as it is."""
        return self._rewrite(request.url.path, answer)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        if request.url.host != "vendor.test" or answer.status_code != httpx.codes.OK:
            return answer
        body = await answer.aread()
        kept = {k: v for k, v in answer.headers.items() if k != "content-length"}
        try:
            changed = self.changed(request, json.loads(body))
        except ValueError:
            changed = None
        if changed is None:
            return httpx.Response(answer.status_code, headers=kept, content=body, request=request)
        return httpx.Response(answer.status_code, headers=kept, json=changed, request=request)
