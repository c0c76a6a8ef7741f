"""Slow, cut and hostile streams over a real socket, and downloads."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from domain.errors import InvalidInput, VendorBroken, VendorGarbage, VendorUnreachable
from tests.tools.builders import QUICK, SECRETS, VENDOR, Recorder, client
from tools.vendors import artifacts
from tools.vendors.http import HttpVendorClient

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@asynccontextmanager
async def raw_vendor(*parts: bytes, drip_s: float = 0.0, hold: bool = False) -> AsyncIterator[str]:
    """An endpoint that sends `parts`, with pauses between, then closes or holds the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(drip_s)
            if hold:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def poll(endpoint: str) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        await HttpVendorClient(http, SECRETS, QUICK).job_status(
            replace(VENDOR, endpoint=endpoint), "job_1"
        )


async def test_a_silent_vendor_is_unreachable() -> None:
    async with raw_vendor(hold=True) as endpoint:
        with pytest.raises(VendorUnreachable, match="silent"):
            await poll(endpoint)


async def test_a_slow_drip_ends_at_the_total_deadline() -> None:
    drip = [HEAD + b"content-length: 100\r\n\r\n", *[b" "] * 100]
    async with raw_vendor(*drip, drip_s=0.02) as endpoint:
        with pytest.raises(VendorUnreachable, match=r"within 0\.1 s"):
            await poll(endpoint)


async def test_an_answer_cut_short_is_unreachable() -> None:
    async with raw_vendor(HEAD + b"content-length: 100\r\n\r\n{") as endpoint:
        with pytest.raises(VendorUnreachable, match="RemoteProtocolError"):
            await poll(endpoint)


async def test_a_declared_flood_is_refused_before_it_is_read() -> None:
    async with raw_vendor(HEAD + b"content-length: 9999999999\r\n\r\n", hold=True) as endpoint:
        with pytest.raises(VendorGarbage, match="above"):
            await poll(endpoint)


async def test_what_does_not_speak_http_is_unreachable() -> None:
    async with raw_vendor(b"SSH-2.0-OpenSSH\r\n\r\n") as endpoint:
        with pytest.raises(VendorUnreachable):
            await poll(endpoint)


async def test_a_closed_port_is_unreachable() -> None:
    async with raw_vendor() as endpoint:
        pass
    with pytest.raises(VendorUnreachable, match="ConnectError"):
        await poll(endpoint)


@pytest.mark.parametrize("endpoint", ["", "http://", "http://[::", "nowhere"])
async def test_an_endpoint_that_is_no_address_is_unreachable(endpoint: str) -> None:
    with pytest.raises(VendorUnreachable):
        await poll(endpoint)


DATA = b"weights" * 1_000
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = "/artifacts/job_1/model.json"


def file_answer(etag: str = f'"{SHA256}"') -> httpx.Response:
    return httpx.Response(200, content=DATA, headers={"etag": etag})


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("url", [URL, "http://vendor.test/artifacts/job_1/model.json"])
async def test_an_artifact_is_put_in_place_whole(tmp_path: Path, url: str) -> None:
    vendor = Recorder(file_answer())
    artifact = await client(vendor).download(VENDOR, url, "job_1", tmp_path)
    assert artifact.path == tmp_path / "job_1" / "model.json"
    assert artifact.path.read_bytes() == DATA
    assert (artifact.sha256, artifact.size) == (SHA256, len(DATA))
    assert files(tmp_path) == [artifact.path]
    assert str(vendor.requests[0].url) == "http://vendor.test/artifacts/job_1/model.json"


@pytest.mark.parametrize(
    "etag", ["", "W/abc", "v1", f'"sha256:{SHA256}"', f"sha256-{SHA256}", SHA256.upper()]
)
async def test_an_etag_counts_only_as_a_sha256(tmp_path: Path, etag: str) -> None:
    artifact = await client(Recorder(file_answer(etag))).download(VENDOR, URL, "job_1", tmp_path)
    assert artifact.sha256 == SHA256


async def test_bytes_that_contradict_the_etag_are_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(VendorGarbage, match="sha256"):
        await client(Recorder(file_answer("0" * 64))).download(VENDOR, URL, "job_1", tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.test/artifacts/x",
        "https://vendor.test/artifacts/x",
        "http://vendor.test:81/artifacts/x",
        "//evil.test/x",
        "http://vendor.test@evil.test/x",
        "http://user:pass@vendor.test/x",
        "file:///etc/passwd",
        "http://[::",
    ],
)
async def test_nothing_is_fetched_from_elsewhere(tmp_path: Path, url: str) -> None:
    vendor = Recorder(file_answer())
    with pytest.raises(VendorGarbage):
        await client(vendor).download(VENDOR, url, "job_1", tmp_path)
    assert vendor.requests == []


@pytest.mark.parametrize(
    ("url", "job", "place"),
    [
        ("/a/..%2f..%2fetc%2fpasswd", "job_1", "job_1/passwd"),
        ("/a/..", "../..", "_../artifact"),
        ("/a/.bashrc", "..", "job/bashrc"),
        ("/a/x%00y%0az", "/", "_/x_y_z"),
        ("/", "j" * 300, "j" * 100 + "/artifact"),
    ],
)
async def test_names_stay_inside_the_folder(tmp_path: Path, url: str, job: str, place: str) -> None:
    artifact = await client(Recorder(file_answer())).download(VENDOR, url, job, tmp_path / "in")
    assert artifact.path == tmp_path / "in" / place
    assert artifact.path.resolve().is_relative_to((tmp_path / "in").resolve())


@pytest.mark.parametrize("size", [10, len(DATA) - 1])
async def test_a_file_above_the_limit_is_thrown_away(tmp_path: Path, size: int) -> None:
    asked = client(Recorder(file_answer()), max_artifact_bytes=size)
    with pytest.raises(VendorGarbage, match="above"):
        await asked.download(VENDOR, URL, "job_1", tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: httpx.Response(302, headers={"location": "http://evil.test"}), VendorGarbage),
        (lambda: httpx.Response(500), VendorBroken),
        (lambda: httpx.ReadTimeout("t"), VendorUnreachable),
    ],
)
async def test_a_failed_download_leaves_nothing(
    tmp_path: Path, answer: Callable[[], httpx.Response | Exception], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await client(Recorder(answer())).download(VENDOR, URL, "job_1", tmp_path)
    assert files(tmp_path) == []


async def test_a_download_cut_short_is_tried_again_and_leaves_nothing(tmp_path: Path) -> None:
    cut = HEAD + b"content-length: 100\r\n\r\nhalf"
    async with raw_vendor(cut) as endpoint, httpx.AsyncClient(verify=False) as http:
        vendor = replace(VENDOR, endpoint=endpoint)
        with pytest.raises(VendorUnreachable):
            await HttpVendorClient(http, SECRETS, QUICK).download(vendor, "/a/x", "j", tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("step", "left"), [("make", []), ("write", []), ("put_in_place", ["model.json"])]
)
async def test_a_download_cut_off_while_the_disk_is_slow_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, left: list[str]
) -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()
    real = getattr(artifacts._Partial, step)

    def slow(partial: object, *args: bytes) -> None:
        begun.set()
        go_on.wait(10)
        try:
            real(partial, *args)
        finally:
            over.set()

    monkeypatch.setattr(artifacts._Partial, step, slow)
    asked = client(Recorder(file_answer()))
    download = asyncio.create_task(asked.download(VENDOR, URL, "job_1", tmp_path))
    assert await asyncio.to_thread(begun.wait, 10)
    download.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await download
    assert await asyncio.to_thread(over.wait, 10)
    assert [path.name for path in files(tmp_path)] == left


async def test_a_vendor_without_an_http_endpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="endpoint"):
        await client(Recorder()).download(replace(VENDOR, endpoint="ftp://x"), URL, "j", tmp_path)
