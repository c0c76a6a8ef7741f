"""Downloading a job's result: from the vendor's own origin, bounded, checked, and put in place
only when whole."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, Self
from urllib.parse import unquote

import httpx

from domain.errors import InvalidInput
from tools.vendors.base import Artifact
from tools.wire.exchange import Limits, TooLarge, open_stream, refuse_oversized
from tools.wire.untrusted import Unreadable

LONGEST_NAME: Final = 100

_SHA256_ETAG: Final = re.compile(r'(?:W/)?"?(?:sha256[:-])?([0-9a-fA-F]{64})"?', re.ASCII)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


def own_url(endpoint: str, artifact_url: str) -> httpx.URL:
    """`artifact_url`, absolute or relative to `endpoint`, when it lies on the endpoint's origin.

    Raises Unreadable otherwise, and InvalidInput for an endpoint that is no HTTP address.
    """
    try:
        base = httpx.URL(endpoint)
    except httpx.InvalidURL:
        base = httpx.URL("")
    if base.scheme not in ("http", "https") or not base.host:
        raise InvalidInput("endpoint", "the vendor's endpoint is not an HTTP address")
    try:
        url = base.join(artifact_url)
    except (httpx.InvalidURL, ValueError):
        raise Unreadable("its artifact's address is not a URL") from None
    if _origin(url) != _origin(base) or url.userinfo:
        raise Unreadable("its artifact lies outside the vendor's own address; not fetched")
    return url


def local_path(folder: Path, vendor_job_id: str, url: httpx.URL) -> Path:
    """Where the artifact goes: `folder`/<job>/<name>, made of harmless characters only."""
    name = unquote(url.path).rsplit("/", 1)[-1]
    return folder / _safe(vendor_job_id, "job") / _safe(name, "artifact")


async def fetch(
    http: httpx.AsyncClient,
    url: httpx.URL,
    path: Path,
    *,
    headers: dict[str, str],
    limits: Limits,
    check: Callable[[int], None],
) -> Artifact:
    """Stream `url` to `path`, replacing it when the whole file is there and its sha256 is right.

    check: gets the status code and raises unless it is 2xx. Raises NoAnswer and Unreadable
    as `open_stream` does, and leaves no partial file behind.
    """
    async with open_stream(http, "GET", url, limits=limits, headers=headers) as response:
        check(response.status_code)
        refuse_oversized(response, limits.body_bytes)
        async with _Partial(path) as partial:
            sha256, size = await _write(response, partial, limits.body_bytes)
            claimed = _SHA256_ETAG.fullmatch(response.headers.get("etag", "").strip())
            if claimed and claimed[1].lower() != sha256:
                raise Unreadable("its artifact's bytes do not have the sha256 in its etag")
            await partial.do(partial.put_in_place)
    return Artifact(path=path, sha256=sha256, size=size)


async def _write(response: httpx.Response, partial: _Partial, limit: int) -> tuple[str, int]:
    await partial.do(partial.make)
    digest = hashlib.sha256()
    size = 0
    async for part in response.aiter_bytes(64 * 1024):
        size += len(part)
        if size > limit:
            raise TooLarge(f"its artifact is above {limit:,} bytes")
        digest.update(part)
        await partial.do(partial.write, part)
    return digest.hexdigest(), size


class _Partial:
    """A file beside `path`, gone at the end unless it was put in place.

    One thread does everything to it, in order: a deadline may cut the wait for a step, not the
    step itself, and the clean-up comes after it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="artifact")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.do(self._discard)
        finally:
            self._thread.shutdown(wait=False)

    async def do(self, step: Callable[..., None], *args: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, step, *args)

    def make(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115  (closed by _discard)
            prefix=".partial-", dir=self._path.parent, delete=False
        )

    def write(self, part: bytes) -> None:
        assert self._file
        self._file.write(part)

    def put_in_place(self) -> None:
        assert self._file
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._file.name, self._path)

    def _discard(self) -> None:
        if self._file:
            Path(self._file.name).unlink(missing_ok=True)
            self._file.close()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host.lower(), url.port or default


def _safe(name: str, otherwise: str) -> str:
    return _UNSAFE.sub("_", name[:LONGEST_NAME]).lstrip(".") or otherwise
