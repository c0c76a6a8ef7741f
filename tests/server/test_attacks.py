"""A day's worth of attacks on a server that others reach: the right status, and still answering."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from domain.errors import DependencyDown, InvalidInput
from server.access import Scope
from server.api.docs_page import docs_page
from server.app import create_app
from server.commands.registry import _check_public
from server.config.settings import Settings
from server.middleware.body_limit import LARGEST_BODY_BYTES, Bodies
from server.middleware.http_errors import problem
from server.middleware.rate_limits import RateLimits, TooMany
from server.middleware.security_headers import content_policy
from server.wiring import Services
from tests.server.conftest import Api, failing, opening, serving
from tests.server.exposed import Exposed, exposed, with_settings
from tests.server.test_api_http import JSON, START, listening

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def server(services: Services) -> AsyncIterator[Exposed]:
    async with exposed(services) as opened:
        yield opened


async def alive(api: Api) -> None:
    assert (await api.http.get("/healthz")).status_code == 200
    assert (await api.http.get("/api/runs")).status_code == 200


@asynccontextmanager
async def connected(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Over a real connection, where no key is asked for."""
    async with listening(create_app(opening(services), services.settings)) as http:
        yield http


def _pieces(size: int) -> Iterator[bytes]:
    yield from (b" " * 65536 for _ in range(0, size, 65536))


async def test_50_megabytes_are_refused_and_the_server_keeps_none_of_them(
    services: Services,
) -> None:
    async def sent() -> AsyncIterator[bytes]:
        for piece in _pieces(50 * MEBIBYTE):
            yield piece

    async with connected(services) as http:
        counted = await http.post("/api/agent-start", content=b" " * (50 * MEBIBYTE), headers=JSON)
        uncounted = await http.post("/api/agent-start", content=sent(), headers=JSON)
        await alive(Api(http))

    assert [counted.status_code, uncounted.status_code] == [413, 413]
    assert counted.json()["error"] == "The body is larger than 64 KiB. Send less"


async def test_a_stranger_with_50_megabytes_is_not_listened_to(services: Services) -> None:
    asked = with_settings(services, api_keys="required")
    async with listening(create_app(opening(asked), asked.settings)) as http:
        with suppress(httpx.WriteError, httpx.ReadError):
            answer = await http.post(
                "/api/agent-start", content=b" " * (50 * MEBIBYTE), headers=JSON
            )
            assert answer.status_code == 401
        assert (await http.get("/healthz")).status_code == 200


async def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(server: Exposed) -> None:
    api = server.with_key(await server.key("u1"))
    padding = LARGEST_BODY_BYTES - len(START)
    fits = await api.http.post("/api/agent-start", content=START + b" " * padding, headers=JSON)
    more = await api.http.post(
        "/api/agent-start", content=START + b" " * (padding + 1), headers=JSON
    )

    assert [fits.status_code, more.status_code] == [200, 413]


async def test_a_body_that_trickles_in_is_given_up() -> None:
    async def app(*_: object) -> None:
        raise AssertionError("a body that never came was handled")

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    bounded: ASGIApp = Bodies(app, deadline_s=0.05)
    transport = httpx.ASGITransport(bounded)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        answer = await http.post("/api/agent-start", content=slowly())

    assert answer.status_code == 408
    said = "The body did not arrive within 0.05 seconds. Send it again"
    assert answer.json() == {"error": said}


async def test_half_a_hundred_slow_senders_hold_up_nobody(services: Services) -> None:
    async with connected(services) as http:
        url = httpx.URL(http.base_url)
        head = (
            f"POST /api/agent-start HTTP/1.1\r\nHost: {url.host}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        slow = [await asyncio.open_connection(url.host, url.port) for _ in range(50)]
        for _, writer in slow:
            writer.write(head.encode())
            await writer.drain()
        await alive(Api(http))
        for _, writer in slow:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        await alive(Api(http))


async def test_guessing_keys_soon_gets_no_hearing_and_costs_the_database_nothing(
    services: Services,
) -> None:
    async with exposed(services, rate_limit_anonymous_per_minute=20) as server:
        good = server.with_key(await server.key("u1"))
        await alive(good)
        guesser = server.with_key("gr_aaaaaaaaaaaa_" + "A" * 43)
        answers = [await guesser.http.get("/api/runs") for _ in range(40)]
        statuses = Counter(answer.status_code for answer in answers)
        await alive(good)  # from the same address, with a key that was good before

    assert statuses == {401: 20, 429: 20}
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


async def test_a_thousand_requests_in_a_moment_are_counted_and_the_rest_refused(
    services: Services,
) -> None:
    async with exposed(services, rate_limit_per_minute=50) as server:
        flooder = server.with_key(await server.key("u1"))
        other = server.with_key(await server.key("u2"))
        room = asyncio.Semaphore(50)

        async def ask() -> int:
            async with room:
                return (await flooder.http.get("/api/runs")).status_code

        begun = time.monotonic()
        statuses = Counter(await asyncio.gather(*(ask() for _ in range(1_000))))
        took = time.monotonic() - begun
        await alive(other)

    assert statuses == {200: 50, 429: 950} or took > 60  # a second minute has begun
    assert statuses[200] >= 50


async def test_a_limit_is_over_when_its_minute_is() -> None:
    limits = RateLimits(Settings(rate_limit_per_minute=2))
    await limits.admitted("key", "id")
    await limits.admitted("key", "id")
    with pytest.raises(TooMany) as refused:
        await limits.admitted("key", "id")
    await limits.admitted("another key", "another id")

    assert 1 <= refused.value.retry_after_s <= 60


async def test_an_ipv6_host_has_one_count_for_all_its_addresses() -> None:
    limits = RateLimits(Settings(rate_limit_anonymous_per_minute=2))
    await limits.refused("2001:db8::1", "a")
    await limits.refused("2001:db8::ffff", "b")
    with pytest.raises(TooMany):
        await limits.before_looking("2001:db8::2", "c")
    await limits.before_looking("2001:db8:0:1::1", "c")
    await limits.before_looking("192.0.2.1", None)


def _stranger(server: Exposed, host: str = "203.0.113.9") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(server.app, client=(host, 1)), base_url="http://api"
    )


async def test_guesses_at_the_sign_in_page_and_the_api_are_one_count(services: Services) -> None:
    async with exposed(services, rate_limit_anonymous_per_minute=6) as server:
        good = await server.key("u1")
        await alive(server.with_key(good))
        async with _stranger(server) as guesser:
            for n in range(2):
                guess = {"authorization": f"Bearer gr_{n}"}
                assert (await guesser.get("/api/runs", headers=guess)).status_code == 401
                assert (await guesser.post("/sign-in", data={"key": f"gr_{n}"})).status_code == 401
                assert (await guesser.get("/")).status_code == 303
            for answer in (
                await guesser.post("/sign-in", data={"key": "gr_9"}),
                await guesser.get("/runs/none"),
                await guesser.get("/runs/none/artifact"),
                await guesser.get("/api/runs"),
            ):
                assert answer.status_code == 429
                assert int(answer.headers["retry-after"]) > 0
            # Who shares the address and has a good key goes on.
            signed_in = await guesser.post("/sign-in", data={"key": good.secret})
            assert signed_in.status_code == 303
        async with _stranger(server, "203.0.113.10") as other:
            assert (await other.post("/sign-in", data={"key": "gr_9"})).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"origin": "https://elsewhere.example"},
        {"host": "api:3000", "origin": "http://api:8080"},
        {"origin": "null"},
    ],
)
async def test_a_page_of_another_site_posts_nothing(
    services: Services, headers: dict[str, str]
) -> None:
    async with exposed(services) as server:
        key = await server.key("u1")
        async with _stranger(server) as browser:
            answers = [
                await browser.post(path, data={"key": key.secret}, headers=headers)
                for path in ("/sign-in", "/sign-out")
            ]
            bearer = {"authorization": f"Bearer {key.secret}", **JSON, **headers}
            answers += [await browser.post("/api/agent-start", content=START, headers=bearer)]
            assert {answer.status_code for answer in answers} == {403}
            assert not [answer for answer in answers if "set-cookie" in answer.headers]
        assert not await services.deps.ledger.runs.recent()


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("api", {}),
        ("api", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),
        ("api", {"sec-fetch-site": "same-origin", "origin": "http://api"}),
        ("api", {"origin": "http://api"}),
        ("agent.example", {"origin": "https://agent.example:8443"}),  # behind a proxy
        ("agent.example:443", {"origin": "https://agent.example"}),
    ],
)
async def test_a_page_of_this_server_and_programs_sign_in(
    services: Services, host: str, headers: dict[str, str]
) -> None:
    async with exposed(services) as server, _stranger(server) as browser:
        key = (await server.key("u1")).secret
        answer = await browser.post(
            "/sign-in", data={"key": key}, headers={"host": host, **headers}
        )
        assert answer.status_code == 303
        assert "set-cookie" in answer.headers


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "origin": "null"}, 200),
        ({"sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-mode": "cors", "origin": "https://elsewhere.example"}, 403),
    ],
)
async def test_a_page_of_another_site_links_here_and_reads_nothing(
    services: Services, asked: dict[str, str], status: int
) -> None:
    async with exposed(services) as server, _stranger(server) as browser:
        headers = {"sec-fetch-site": "cross-site", **asked}
        assert (await browser.get("/healthz", headers=headers)).status_code == status
        assert (await browser.post("/sign-in", headers=headers)).status_code == 403


async def test_a_replayed_request_does_nothing_twice(server: Exposed) -> None:
    """Caught on the wire with its key and its Idempotency-Key, and sent again a hundred times."""
    api = server.with_key(await server.key("u1"))
    headers = {**JSON, "idempotency-key": "once"}
    answers = [
        await api.http.post("/api/agent-start", content=START, headers=headers) for _ in range(100)
    ]

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(await server.services.deps.ledger.runs.recent()) == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://127.0.0.1",
        "https://10.0.0.1:8443",
        "https://169.254.169.254/latest",
        "https://[::1]",
        "https://[::ffff:10.0.0.1]",
        "https://2130706433",
        "https://0x7f.1",
        "https://localhost:27017",
    ],
)
async def test_a_vendor_of_this_machine_or_network_is_not_registered(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="which is not a public address"):
        await _check_public(endpoint)


@pytest.mark.parametrize(
    "path", ["/healthz", "/api/runs", "/api/nothing", "/docs", "/openapi.json"]
)
async def test_every_answer_tells_the_browser_what_it_may_not_do(bare: Api, path: str) -> None:
    headers = (await bare.http.get(path)).headers
    policy = headers["content-security-policy"]

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert "*" not in policy
    if path.startswith("/api/"):
        assert policy == content_policy("/api/")
        assert "script-src" not in policy


async def test_the_documentation_needs_nothing_from_elsewhere(bare: Api) -> None:
    answer = await bare.http.get("/docs")

    assert "/api/agent-start" in answer.text
    for outside in ("<script", "http-equiv", 'src="', "url(", "<link", "@import"):
        assert outside not in answer.text
    assert "unsafe-inline" not in answer.headers["content-security-policy"]


def test_the_documentation_escapes_what_it_shows() -> None:
    evil = "<script>alert(1)</script>"
    page = docs_page(
        {
            "info": {"title": evil, "version": evil, "description": evil},
            "paths": {"/x": {"get": {"description": evil, "responses": {}}}},
            "components": {"schemas": {evil: {"properties": {evil: {"description": evil}}}}},
        }
    )

    assert "<script" not in page


async def test_an_error_with_a_stranger_tells_nothing_of_what_is_behind(services: Services) -> None:
    async with exposed(services) as server:
        body = (await server.http.get("/readyz")).json()

    assert body == {"ready": True, "dependencies": {"mongodb": {"ok": True}, "chain": {"ok": True}}}


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7"])
async def test_a_stranger_is_not_told_why_nothing_could_be_opened(address: str) -> None:
    why = DependencyDown("Starting the embedded MongoDB: /srv/ann/gpu/logs says no")
    settings = Settings(api_keys="required") if address == "127.0.0.1" else None
    app = create_app(failing(why), settings)

    async def there(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await app({**scope, "server": (address, 3000)}, receive, send)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(there), base_url="http://api"
    ) as stranger:
        answer = await stranger.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["dependencies"] == {"services": {"ok": False}}
    assert "ann" not in answer.text


async def test_a_scope_that_is_not_known_gives_no_right(server: Exposed) -> None:
    key = await server.key("u1", Scope.READ)
    await server.services.deps.ledger.keys.documents.change(
        key.record.id, {}, {"$set": {"scopes": ["read", "everything"]}}
    )
    api = server.with_key(key)

    assert (await api.http.get("/api/runs")).status_code == 200
    assert (await api.tick("f" * 24)).status_code == 403


def test_an_error_that_names_when_to_come_back_says_it_in_a_header() -> None:
    assert problem(503, "x").headers["retry-after"] == "5"
    assert problem(429, "x", {"Retry-After": "7"}).headers["retry-after"] == "7"


async def test_a_thousand_refused_strangers_leave_the_server_answering(
    services: Services,
) -> None:
    asked = with_settings(services, api_keys="required")
    async with serving(create_app(opening(asked), asked.settings)) as api:
        statuses = Counter([(await api.http.get("/api/runs")).status_code for _ in range(1_000)])
        assert (await api.http.get("/healthz")).status_code == 200

    assert set(statuses) <= {401, 429}
    assert statuses[429] >= 800
