"""On a server that asks for a key: who signs in, what they see, and what they may do."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from domain.approvals import Approval, ApprovalState
from domain.ids import new_run_id
from domain.money import Usd
from ledger.ledger import Ledger
from ledger.run import Run
from ledger.store import Store
from server.access import Scope, new_key
from server.config.settings import Settings
from server.dashboard.sessions import COOKIE, TALK
from server.wiring import now
from tests.dashboard.browser import PHONE, chromium, visiting
from tests.support.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Guarded:
    """A server that asks for keys, two keys of Ann's, and a run of hers and one of Bob's."""

    server: Served
    ledger: Ledger
    key: str
    reading_key: str
    hers: Run
    his: Run


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    mongodb_uri: str, local_services: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Guarded]:
    chromium()
    name = f"test_{uuid.uuid4().hex}"
    store = Store.open(mongodb_uri, name)
    ledger = Ledger.over(store)
    full, reading = new_key("ann", TALK, now()), new_key("ann", [Scope.READ], now())
    for made in (full, reading):
        await ledger.keys.add(made.record)
    hers = await ledger.runs.create(new_run_id(), "ann", "Ann's job on a T4", Usd(10**6), now())
    his = await ledger.runs.create(new_run_id(), "bob", "Bob's job on a T4", Usd(10**6), now())
    env = {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB_NAME": name,
        "RPC_URL": local_services.chain_url,
        "API_KEYS": "required",
    }
    with Served(tmp_path_factory.mktemp("guarded"), env) as server:
        yield Guarded(server, ledger, full.secret, reading.secret, hers, his)
    await store.close()


async def sign_in(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def test_only_the_owners_runs_are_seen(guarded: Guarded, browser: Browser) -> None:
    async with visiting(browser, guarded.server.url, PHONE) as visitor:
        page = visitor.page
        await page.goto(f"/runs/{guarded.hers.id}")
        await expect(page).to_have_url(re.compile("/sign-in"))
        await sign_in(page, guarded.key)

        await expect(page.get_by_role("heading", level=1)).to_have_text("Ann's job on a T4")
        await page.goto("/")
        await expect(page.locator("[data-run]")).to_have_count(1)
        stakes = page.locator("[data-part=stakes]")
        await expect(stakes).to_contain_text("SIMULATION")
        await expect(stakes).not_to_contain_text("wallet")  # it is everybody's, and she is one
        cookie = next(c for c in await page.context.cookies() if c["name"] == COOKIE)
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert guarded.key not in cookie["value"]

        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(re.compile("/sign-in"))
        await page.goto("/")
        await expect(page.get_by_label("API key")).to_be_visible()


async def test_a_key_that_reads_only_gets_no_button_that_does_more(
    guarded: Guarded, browser: Browser
) -> None:
    approval = Approval(
        "apr_dashboard",
        guarded.hers.id,
        0,
        "v",
        "0x0",
        Usd(10**6),
        "q",
        ApprovalState.PENDING,
        now(),
        now().replace(year=now().year + 1),
    )
    await guarded.ledger.approvals.ask(approval)
    async with visiting(browser, guarded.server.url) as visitor:
        page = visitor.page
        await page.goto(f"/runs/{guarded.hers.id}")
        await sign_in(page, guarded.reading_key)
        await expect(page.locator("[data-part=approval]")).to_contain_text("cannot approve")
        names = await page.get_by_role("button").all_inner_texts()
        assert names == ["◐", "Sign out"]
        assert await page.get_by_role("textbox").count() == 0


async def test_a_stranger_gets_nothing_but_the_door(guarded: Guarded) -> None:
    async with httpx.AsyncClient(base_url=guarded.server.url, trust_env=False) as http:
        for path in ("/", "/vendors", f"/runs/{guarded.hers.id}", "/runs/none"):
            for asked in (path, f"{path}/artifact") if "/runs/" in path else (path,):
                answer = await http.get(asked)
                assert (answer.status_code, answer.headers["location"]) == (
                    303,
                    f"/sign-in?next={path}",
                )
        wrong = await http.post("/sign-in", data={"key": "gr_wrong", "next": "/"})
        assert wrong.status_code == 401
        words = re.sub("<[^>]*>", "", wrong.text)
        assert "this makes one: gpu-renter keys create --owner YOU --scope start" in words
        assert "set-cookie" not in wrong.headers
        await http.post("/sign-in", content=b"key=" + b"x" * 10_000_000)
        forged = await http.get("/", headers={"Cookie": f"{COOKIE}=forged"})
        assert forged.status_code == 303
        elsewhere = await http.post(
            "/sign-in", data={"key": guarded.key, "next": "//evil.example/"}
        )
        assert elsewhere.headers["location"] == "/"


async def test_anothers_run_is_not_there(guarded: Guarded) -> None:
    async with httpx.AsyncClient(base_url=guarded.server.url, trust_env=False) as http:
        await http.post("/sign-in", data={"key": guarded.key})
        assert (await http.get(f"/runs/{guarded.hers.id}")).status_code == 200
        theirs = await http.get(f"/runs/{guarded.his.id}")
        assert theirs.status_code == 404
        assert "Bob" not in theirs.text
        file = await http.get(f"/runs/{guarded.his.id}/artifact")
        assert (file.status_code, "There is no run" in file.text) == (404, True)


async def test_a_revoked_key_opens_nothing_any_more(guarded: Guarded) -> None:
    made = new_key("ann", TALK, now())
    await guarded.ledger.keys.add(made.record)
    async with httpx.AsyncClient(base_url=guarded.server.url, trust_env=False) as http:
        await http.post("/sign-in", data={"key": made.secret})
        assert (await http.get("/")).status_code == 200
        await guarded.ledger.keys.revoke(made.record.id, now())
        assert (await http.get("/")).status_code == 303
