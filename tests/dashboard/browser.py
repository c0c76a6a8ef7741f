"""A headless Chromium, and pages that remember what went wrong in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

DESKTOP: Final = (1280, 900)
PHONE: Final = (390, 844)
PATIENCE_MS: Final = 45_000
OPTIONS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

expect.set_options(timeout=PATIENCE_MS)


def chromium() -> str:
    """Its program. Without one: a failure where CI is set, else the test is skipped."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        missing = "There is no chromium. Install it: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    program = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        yield browser
        await browser.close()


@dataclass
class Watched:
    """A page, and what it should not do: complain, or talk to others than its server."""

    page: Page
    server: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("websocket", lambda socket: self._asked(socket.url))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))

    def _heard(self, message: object) -> None:
        if getattr(message, "type", "") in ("error", "warning"):
            self.complaints.append(str(getattr(message, "text", message)))

    def _asked(self, url: str) -> None:
        asked, ours = urlsplit(url), urlsplit(self.server)
        if asked.scheme not in ("data", "blob") and asked.netloc != ours.netloc:
            self.elsewhere.append(url)

    async def width(self) -> int:
        """How wide the content is: more than the window means scrolling sideways."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth"))


@asynccontextmanager
async def visiting(
    browser: Browser, server: str, size: tuple[int, int] = DESKTOP
) -> AsyncIterator[Watched]:
    """A fresh visitor. At the end, nothing was complained of and nobody else was asked."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        base_url=server,
        reduced_motion="reduce",  # without a GPU, drawing a pulse keeps a whole core busy
    )
    watched = Watched(await context.new_page(), server)
    yield watched
    await context.close()
    assert watched.complaints == []
    assert watched.elsewhere == []
