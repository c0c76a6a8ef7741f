"""Words of users and vendors on the pages: shown as they are, never obeyed; and a store away."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.async_api import Browser, expect

from domain.ids import new_run_id
from domain.journal import Note, NoteType
from domain.money import Usd
from domain.quotes import Quote, Vendor
from ledger.ledger import Ledger
from ledger.observations import Head
from ledger.run import RecordedOffer
from server.wiring import now
from tests.dashboard.browser import PHONE, visiting
from tests.dashboard.conftest import service
from tests.support.served import Served, descendants

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = (
    '<img src=x onerror="document.title=1337"><script>document.title=1337</script>'
    "</script>${document.title=1337}`{{constructor.constructor('document.title=1337')()}}"
    " [click](javascript:document.title=1337) https://evil.example/" + "x" * 60
)


async def test_hostile_words_are_only_words(
    served: Served, browser: Browser, ledger: Ledger
) -> None:
    run = await ledger.runs.create(new_run_id(), HOSTILE, HOSTILE, Usd(5_000_000), now())
    vendor = Vendor("evil", HOSTILE, "http://127.0.0.1:9", Usd(1), 0.5, ("T4",))
    await ledger.vendors.put(vendor, now())
    notes = [
        Note(NoteType.QUOTE, HOSTILE, {"vendorId": HOSTILE, "priceMicros": 1}),
        Note(NoteType.AGENT_REASONING, HOSTILE, {"planner": "stub", "reason": HOSTILE}),
        Note(NoteType.JOB_LOG, HOSTILE),
        Note(NoteType.JOB_LOG, "Epoch 1/2 loss=2.5", {}, f"{HOSTILE}:line:1"),
        Note(NoteType(HOSTILE), HOSTILE),
        Note(NoteType.RECOVERY, HOSTILE),
    ]
    await ledger.observations.append(run.id, Head(), notes, now())
    quote = Quote(HOSTILE, HOSTILE, HOSTILE, 60, Usd(1), 1.0, None)
    _, lease = await ledger.runs.acquire(run.id, now, 60)
    await ledger.runs.set_offers(lease, [RecordedOffer(quote, HOSTILE)])
    await ledger.runs.release(lease, now(), {"reason": HOSTILE})

    async with visiting(browser, served.url, PHONE) as visitor:
        page = visitor.page
        await page.goto(f"/runs/{run.id}")
        await expect(page.locator("[data-part=logs]")).to_contain_text("<script>")
        await expect(page.locator("[data-part=timeline]")).to_contain_text("onerror=")
        await expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
        assert await visitor.width() <= PHONE[0]
        assert await page.title() == "Run · GPU Renter"
        assert await page.locator("img[src=x], a[href*=javascript], a[href*=evil]").count() == 0

        await page.goto("/")
        await expect(page.locator(f"[data-run='{run.id}']")).to_contain_text("<script>")
        await page.get_by_role("textbox").fill(HOSTILE)
        await page.keyboard.press("Enter")
        await expect(page.locator(".said.me")).to_contain_text("<script>")
        await expect(page.locator(".said:not(.me)").first).to_be_visible()
        assert await page.title() == "Runs · GPU Renter"

        await page.goto("/vendors")
        await expect(page.locator(".vendors")).to_contain_text("<script>")
        assert await visitor.width() <= PHONE[0]
        assert await page.title() == "Vendors · GPU Renter"
    await ledger.vendors.remove("evil")


async def test_a_page_says_when_the_store_is_away_and_recovers_by_itself(
    served: Served, browser: Browser
) -> None:
    body = {"userId": "u1", "goal": "Train on a T4", "budgetTotal": 1}
    run_id = served.call("POST", "/api/agent-start", json=body).json()["_id"]
    mongo = descendants(int(service(served, "mongodb")["pid"]))[-1]
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await page.goto(f"/runs/{run_id}")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Train on a T4")
        os.kill(mongo, signal.SIGSTOP)
        try:
            await expect(page.get_by_role("alert")).to_contain_text("MongoDB")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Train on a T4")
        finally:
            os.kill(mongo, signal.SIGCONT)
        await expect(page.get_by_role("alert")).to_have_count(0)
