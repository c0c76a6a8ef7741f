"""Answers that go wrong on the wire: cut off, too big, too slow."""

from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mock_vendor.vendor.problems import DroppedConnection

_CHUNK = 64 * 1024
_PROMISED_BYTES = b"1000"


class _Dropped(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        headers = [(b"content-length", _PROMISED_BYTES), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise DroppedConnection("the vendor closed the connection")


def dropped() -> Response:
    """Return an answer that ends in the middle, with the connection."""
    return _Dropped()


def oversized(size_bytes: int) -> Response:
    """Return an answer with a JSON body of about this size."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"logs": ["'
        for _ in range(0, size_bytes, _CHUNK):
            yield b"x" * _CHUNK
        yield b'"]}'

    return StreamingResponse(chunks(), media_type="application/json")


def slow(
    response: Response, interval_s: float, sleep: Callable[[float], Awaitable[None]]
) -> Response:
    """Return the same answer, a byte at a time."""
    body = bytes(response.body)

    async def chunks() -> AsyncIterator[bytes]:
        for index in range(len(body)):
            await sleep(interval_s)
            yield body[index : index + 1]

    return StreamingResponse(chunks(), response.status_code, dict(response.headers))
