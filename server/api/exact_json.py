"""Routes whose JSON body is read strictly: numbers exactly, nothing that JSON does not have."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute


class ExactRoute(APIRoute):
    """A route that takes application/json and no other body, and keeps its decimals exact.

    The content type is a protection too: a web page elsewhere cannot send it here unasked.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def exactly(request: Request) -> Response:
            exact = _ExactRequest(request.scope, request.receive)  # reads a body once and keeps it
            media_type = request.headers.get("content-type", "").partition(";")[0]
            if media_type.strip().lower() != "application/json" and await exact.body():
                raise HTTPException(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "The body is not application/json. Send JSON, with that Content-Type",
                )
            return await handle(exact)

        return exactly


class _ExactRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """The value in `body`, fractions as Decimal. Raises HTTPException 400 for what is not JSON."""
    try:
        return json.loads(body.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise HTTPException(
            HTTPStatus.BAD_REQUEST,
            "The body is not JSON. Send an object with the fields that /docs shows",
        ) from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
