"""One HTTP exchange with a peer that may be slow, broken or hostile.

Vendors, RPC nodes and the wallet service are all reached through here, over the one injected
`httpx.AsyncClient`, so that a test can fault every call. Redirects are never followed, cookies
never sent, compressed bodies never unpacked, and the whole exchange has one deadline. httpx has a
time-out for each read and none for all of them, and bounds no body.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tools.wire.observer import note
from tools.wire.public_hosts import refusal
from tools.wire.untrusted import Unreadable


class NoAnswer(Exception):
    """No complete answer came in time: what the peer did with the request is unknown."""


class TooLarge(Unreadable):
    """More bytes came than the caller takes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds to connect, between two reads, and for the whole exchange; bytes of body."""

    connect_s: float
    read_s: float
    total_s: float
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status_code: int
    headers: httpx.Headers
    body: bytes


async def exchange(
    http: httpx.AsyncClient,
    method: str,
    url: str | httpx.URL,
    *,
    limits: Limits,
    headers: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    content: bytes | None = None,
) -> Answer:
    """Send one request, once, and read the whole answer.

    Raises NoAnswer for a refused or broken connection, an answer cut short and any deadline;
    Unreadable for a body above the limit or compressed.
    """
    async with open_stream(
        http, method, url, limits=limits, headers=headers, params=params, content=content
    ) as response:
        body = await read_body(response, limits.body_bytes)
        return Answer(response.status_code, response.headers, body)


@asynccontextmanager
async def open_stream(
    http: httpx.AsyncClient,
    method: str,
    url: str | httpx.URL,
    *,
    limits: Limits,
    headers: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    content: bytes | None = None,
) -> AsyncIterator[httpx.Response]:
    """The answer as a stream whose body is not compressed. Reading it is under the deadline too.

    Raises as `exchange` does.
    """
    try:
        async with asyncio.timeout(limits.total_s):
            request = http.build_request(
                method,
                url,
                params=params,
                content=content,
                headers={"Accept-Encoding": "identity", **(headers or {})},
                timeout=httpx.Timeout(limits.read_s, connect=limits.connect_s),
            )
            request.headers.pop("cookie", None)
            response = await http.send(request, stream=True, follow_redirects=False)
            note(status=response.status_code)
            try:
                _refuse_compressed(response)
                yield response
            finally:
                await response.aclose()
    except TimeoutError:
        raise NoAnswer(f"no complete answer within {limits.total_s:g} s") from None
    except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
        why = refusal(error) or f"the connection failed ({type(error).__name__})"
        raise NoAnswer(why) from None
    except httpx.ConnectTimeout:
        raise NoAnswer(f"no connection within {limits.connect_s:g} s") from None
    except httpx.TimeoutException:
        raise NoAnswer(f"it was silent for {limits.read_s:g} s") from None
    except httpx.RequestError as error:
        raise NoAnswer(f"the connection failed ({type(error).__name__})") from None
    except httpx.InvalidURL:
        raise NoAnswer("its address is not a valid URL") from None


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """The whole of a streamed body, as it came. Raises TooLarge for more than `limit` bytes, and
    Unreadable for a compressed one.
    """
    _refuse_compressed(response)
    refuse_oversized(response, limit)
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > limit:
            raise TooLarge(f"its answer is above {limit:,} bytes")
        parts.append(part)
    return b"".join(parts)


def refuse_oversized(response: httpx.Response, limit: int) -> None:
    """Raise TooLarge when the answer declares more than `limit` bytes of body."""
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise TooLarge(f"its answer is above {limit:,} bytes")


def _refuse_compressed(response: httpx.Response) -> None:
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Unreadable("its answer is compressed, which was not asked for")
