"""The pages as a person uses them: from a goal to the end of a run, at a desk and on a phone."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from domain.ids import new_run_id
from domain.journal import Note, NoteType
from domain.money import Usd
from ledger.ledger import Ledger
from ledger.observations import Head
from server.chat.phases import DOES
from server.wiring import now
from tests.dashboard.browser import DESKTOP, PHONE, visiting
from tests.support.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROKEN_WORDS = """(cells) => cells.flatMap((cell) => {
  const broken = [], walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    for (const word of node.data.matchAll(/\\S+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (range.getClientRects().length > 1) broken.push(word[0]);
    }
  }
  return broken;
})"""
"""The words that stand on more than one line."""
GOAL = "Fine-tune a 7B model on an A100, under $5"


@pytest_asyncio.fixture(loop_scope="module")
async def strangers(ledger: Ledger) -> None:
    """Vendors of whom nothing is known, so that the cheaper one is chosen first."""
    for vendor in await ledger.vendors.all():
        await ledger.vendors.remove(vendor.vendor_id)
        await ledger.vendors.put(replace(vendor, completed=0, failed=0), now())


async def say(page: Page, words: str) -> None:
    await page.get_by_role("textbox").fill(words)
    await page.keyboard.press("Enter")


async def say_half(page: Page) -> None:
    """A goal without its budget, on the first page."""
    await page.goto("/")
    await say(page, "Fine-tune a 7B model on an A100 for an hour")


async def start_by_chat(page: Page) -> str:
    """Start a run on the first page, and open its page; its id."""
    await page.goto("/")
    await say(page, GOAL)
    await page.get_by_role("link", name="Open the run").last.click()
    await page.wait_for_url(re.compile(r"/runs/"))
    return page.url.partition("/runs/")[2].partition("?")[0]


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_a_run_from_its_goal_over_a_failure_and_approvals_to_its_end(
    served: Served, browser: Browser, size: tuple[int, int]
) -> None:
    async with visiting(browser, served.url, size) as visitor:
        page = visitor.page
        run_id = await start_by_chat(page)
        await page.evaluate("window.sameDocument = true")

        approval = page.locator("[data-part=approval]")
        await approval.get_by_role("button", name="Approve $1.40").click()
        timeline = page.locator("[data-part=timeline]")
        await expect(timeline).to_contain_text("FastGPU failed: GPU node lost")
        await expect(page.locator("[data-node=recover]")).to_have_text("Recover, 1×")
        await expect(approval).to_contain_text("$1.80")
        await expect(page.locator("[data-node=approve]")).to_have_attribute("aria-current", "step")
        await approval.get_by_role("button", name="Approve $1.80").click()

        end = page.locator("[data-node=end]")
        await expect(end).to_have_text("Completed")
        assert await page.evaluate("window.sameDocument"), "it was never loaded again"
        assert await visitor.width() <= size[0]

        await expect(page.locator("[data-part=budget] dd").first).to_have_text("$3.20")
        await expect(page.locator("[data-part=choices]")).to_contain_text("ReliableGPU at $1.80")
        fallback = "Decided by the ranking: there is no FIREWORKS_API_KEY"
        for part in ("choices", "timeline"):
            await expect(page.locator(f"[data-part={part}]")).to_contain_text(fallback)
        await expect(page.locator("[data-part=choices] tr.taken").first).to_contain_text("$1.80")
        for head in ("Paid first", "Whole job"):
            await expect(page.locator("[data-part=choices] thead").first).to_contain_text(head)
        payments = page.locator("[data-payment]")
        for part in ("jobs", "choices", "payments", "timeline"):
            await expect(page.locator(f"[data-part={part}]")).not_to_contain_text("gpu_vendor_")
        status = served.call("GET", "/api/agent-status", params={"runId": run_id}).json()
        assert await payments.count() == len(status["payments"])
        tx = status["payments"][-1]["x402TxId"]
        await expect(payments.last.locator(f"[title='{tx}']")).to_have_count(1)
        await expect(page.locator("[data-part=logs]")).to_contain_text("Epoch 3/3 loss=")
        await expect(page.locator("[data-part=jobs] svg")).to_be_visible()
        assert status["run"]["status"] == "completed"

        assert await page.locator("td").evaluate_all(BROKEN_WORDS) == []

        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download the result").click()
        file = await (await download.value).path()
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        assert sha256 == status["jobs"][-1]["artifactSha256"]

        await page.goto("/")
        line = page.locator(f"[data-run='{run_id}']")
        await expect(line).to_contain_text("ReliableGPU")
        await expect(line).not_to_contain_text("gpu_vendor_")


async def test_a_run_that_waits_is_cancelled_after_a_second_thought(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        run_id = await start_by_chat(page)
        await expect(page.locator("[data-part=approval]")).to_be_visible()

        await page.get_by_role("button", name="Cancel run").click()
        await page.get_by_role("button", name="Keep it").click()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        status = served.call("GET", "/api/agent-status", params={"runId": run_id}).json()
        assert status["run"]["status"] == "running"

        await page.get_by_role("button", name="Cancel run").click()
        await page.get_by_role("button", name="Cancel the run").click()

        await expect(page.locator("[data-node=end]")).to_have_text("Cancelled")
        await expect(page.get_by_role("button", name="Cancel run")).to_have_count(0)
        status = served.call("GET", "/api/agent-status", params={"runId": run_id}).json()
        assert status["run"]["status"] == "cancelled"
        assert status["run"]["reserved"] == 0


async def test_a_rejected_payment_is_never_made(served: Served, browser: Browser) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        run_id = await start_by_chat(page)
        approval = page.locator("[data-part=approval]")
        await approval.get_by_role("button", name="Reject").click()

        await expect(page.locator("[data-node=end]")).to_have_text("Cancelled")
        status = served.call("GET", "/api/agent-status", params={"runId": run_id}).json()
        assert status["payments"] == []


async def test_the_first_page_shows_a_run_that_somebody_starts_elsewhere(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        await visitor.page.goto("/")
        await expect(visitor.page.get_by_role("heading", name="What should run?")).to_be_visible()
        body = {"userId": "u9", "goal": "Render my film on an H100", "budgetTotal": 3}
        run_id = served.call("POST", "/api/agent-start", json=body).json()["_id"]

        line = visitor.page.locator(f"[data-run='{run_id}']")
        await expect(line).to_contain_text("Render my film on an H100")
        await expect(line).to_contain_text("$0.00 of $3.00")
        await expect(line).to_contain_text(DOES["intake"])
        await expect(line).not_to_contain_text("intake")


async def test_an_example_fills_the_line_and_starts_nothing(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await page.goto("/")
        before = served.call("GET", "/api/runs").json()["runs"]
        example = page.get_by_role("group", name="Examples").get_by_role("button").nth(1)
        await example.click()

        line = page.get_by_role("textbox")
        await expect(line).to_have_value(await example.inner_text())
        await expect(line).to_be_focused()
        await page.keyboard.press("End")
        await page.keyboard.type(", only from ReliableGPU")
        await page.keyboard.press("Enter")
        await expect(page.locator(".said.me")).to_have_text(re.compile("only from ReliableGPU$"))
        await expect(page.get_by_role("link", name="Open the run")).to_be_visible()
        assert len(served.call("GET", "/api/runs").json()["runs"]) == len(before) + 1


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_every_page_says_whether_the_money_is_real_and_how_much_there_is(
    served: Served, browser: Browser, size: tuple[int, int]
) -> None:
    async with visiting(browser, served.url, size) as visitor:
        for address in ("/", "/vendors"):
            await visitor.page.goto(address)
            stakes = visitor.page.locator("[data-part=stakes]")
            await expect(stakes).to_contain_text("SIMULATION")
            await expect(stakes).to_contain_text("local chain")
            await expect(stakes).to_contain_text(re.compile(r"\$[\d,]+\.\d\d in the wallet"))
            assert await visitor.width() <= size[0]


async def test_what_the_goal_leaves_out_is_asked_in_the_page(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await say_half(page)
        await expect(page.locator(".said.question")).to_contain_text(
            re.compile("budget|much", re.I)
        )
        await say(page, "$4")
        await expect(page.get_by_role("link", name="Open the run")).to_be_visible()


async def test_what_a_run_would_leave_out_is_read_before_anything_starts(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await page.goto("/")
        before = served.call("GET", "/api/runs").json()["runs"]
        await say(
            page,
            "Run my train.py from github.com/me/proj in docker image pytorch/pytorch on an A100 "
            "for 2 hours, under $5",
        )
        await expect(page.locator(".said.question")).to_contain_text(
            "Not used: train.py, github.com/me/proj, docker image pytorch/pytorch."
        )
        assert served.call("GET", "/api/runs").json()["runs"] == before
        await say(page, "yes, start it")
        await page.get_by_role("link", name="Open the run").click()
        await expect(page.get_by_text("Not used: train.py").first).to_be_visible()


async def test_what_is_said_before_the_answer_came_is_answered_after_it(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await say_half(page)
        await say(page, "$4")
        await expect(page.locator(".said.me")).to_have_text([re.compile("7B"), "$4"])
        await expect(page.get_by_role("link", name="Open the run")).to_be_visible()


async def test_what_one_visitor_began_to_say_is_no_part_of_anothers_goal(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as one, visiting(browser, served.url) as another:
        for visitor in (one, another):
            await visitor.page.goto("/")
        answer = one.page.locator(".said.question")
        await say(one.page, "Render my film on 8 H100 for 20 hours")
        await expect(answer).to_contain_text(re.compile("How much may I spend", re.I))
        await say(another.page, "$4")
        await expect(another.page.locator(".said.question")).to_contain_text("What shall I run")
        await expect(another.page.get_by_role("link", name="Open the run")).to_have_count(0)


async def test_the_agent_answers_on_the_page_of_a_run(served: Served, browser: Browser) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await start_by_chat(page)
        await say(page, "How much is left?")
        await expect(page.locator(".said:not(.me)").first).to_contain_text("$")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_a_long_reason_stands_in_the_timeline_to_its_last_word(
    served: Served, browser: Browser, ledger: Ledger, size: tuple[int, int]
) -> None:
    run = await ledger.runs.create(new_run_id(), "u1", "Train on a T4", Usd(10**6), now())
    reason = "Because the price is right. " * 60 + "\n" * 9 + "The last word."
    note = Note(NoteType.AGENT_REASONING, reason, {"planner": "stub", "reason": reason})
    await ledger.observations.append(run.id, Head(), [note], now())
    async with visiting(browser, served.url, size) as visitor:
        page = visitor.page
        await page.goto(f"/runs/{run.id}")
        words = page.locator("[data-part=timeline] .words").first
        await expect(words).to_contain_text("The last word.")
        hidden = "(e) => e.scrollHeight - e.clientHeight"
        assert await words.evaluate(hidden) == 0

        region = page.get_by_role("region", name="Timeline, scrollable")
        below = await region.evaluate(hidden)
        assert (below > 0) == (size == DESKTOP), "a phone scrolls the page alone"
        await region.focus()
        await page.keyboard.press("End")
        await expect(region).to_have_js_property("scrollTop", below)
        assert await visitor.width() <= size[0]


async def test_what_is_not_of_today_is_shown_with_its_date(
    served: Served, browser: Browser, ledger: Ledger
) -> None:
    today, before = now(), now() - timedelta(days=3)
    old = await ledger.runs.create(new_run_id(), "u1", "Train on a T4", Usd(10**6), before)
    new = await ledger.runs.create(new_run_id(), "u1", "Train on a T4", Usd(10**6), today)
    for run, at in ((old, before), (new, today)):
        await ledger.observations.append(
            run.id, Head(), [Note(NoteType.JOB_SPEC, "Understood")], at
        )
    shown = {old.id: f"{before:%Y-%m-%d %H:%M}", new.id: f"{today:%H:%M:%S}"}
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await page.goto("/")
        for run_id, when in shown.items():
            time = page.locator(f"[data-run='{run_id}'] time")
            await expect(time).to_have_text(when)
        await expect(time).to_have_attribute("title", f"{today:%Y-%m-%d %H:%M:%S} UTC")
        for run_id, when in shown.items():
            await page.goto(f"/runs/{run_id}")
            await expect(page.locator("[data-part=timeline] time")).to_have_text(when)


async def test_vendors_are_shown_with_their_record(served: Served, browser: Browser) -> None:
    async with visiting(browser, served.url, PHONE) as visitor:
        await visitor.page.goto("/vendors")
        await expect(visitor.page.get_by_role("region", name="FastGPU")).to_contain_text("$1.40")
        await expect(visitor.page.get_by_role("region", name="ReliableGPU")).to_be_visible()
        assert await visitor.width() <= PHONE[0]


async def test_light_and_dark_follow_the_system_and_the_choice_stays(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        paper = "getComputedStyle(document.body).backgroundColor"
        await page.emulate_media(color_scheme="dark")
        await page.goto("/")
        await expect(page.locator("body")).to_have_class(re.compile("body--dark"))
        dark = await page.evaluate(paper)

        await page.get_by_role("button", name="Light or dark").press("Enter")
        await expect(page.locator("body")).to_have_class(re.compile("body--light"))
        assert await page.evaluate(paper) != dark
        await page.goto("/vendors")
        await expect(page.locator("body")).to_have_class(re.compile("body--light"))


async def test_the_keyboard_reaches_everything_in_its_order(
    served: Served, browser: Browser
) -> None:
    async with visiting(browser, served.url) as visitor:
        page = visitor.page
        await page.goto("/")
        await expect(page.get_by_role("textbox")).to_be_visible()
        names = []
        for _ in range(7):
            await page.keyboard.press("Tab")
            names.append(
                await page.evaluate(
                    "document.activeElement.ariaLabel || document.activeElement.innerText.trim()"
                )
            )
        assert names == [
            "Skip to the content",
            "GPU Renter, all runs",
            "Runs",
            "Vendors",
            "Light or dark",
            "What to run, and for how much at most",
            "Start",
        ]


async def test_a_run_that_is_not_there_says_so(served: Served, browser: Browser) -> None:
    answer = served.call("GET", "/runs/ffffffffffffffffffffffff")
    assert answer.status_code == 404
    context = await browser.new_context(base_url=served.url)
    page = await context.new_page()
    await page.goto("/runs/ffffffffffffffffffffffff")
    await expect(page.get_by_role("heading", name="No such run")).to_be_visible()
    await context.close()


async def test_the_api_keeps_its_own_answers_beside_the_pages(served: Served) -> None:
    for method, path in (("GET", "/nothing"), ("POST", "/"), ("GET", "/api/nothing")):
        answer = served.call(method, path)
        assert answer.status_code in (401, 403, 404, 405), path
        assert "error" in answer.json(), path
