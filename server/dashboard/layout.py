"""What every page has: its head, the banner, the visitor, and doing things with their errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from nicegui import Client, ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from domain.errors import NotFound, RenterError
from server.access import Forbidden, Scope
from server.dashboard.live_queries import Look, T, WalletBalance, Watch
from server.dashboard.mount import SCOPE_KEY, VISITOR_KEY, Dashboard
from server.dashboard.sessions import Visitor
from server.dashboard.widgets import Part, box, button, text
from server.wiring import Services

LOG: Final = logging.getLogger(__name__)
THEME_COOKIE: Final = "gpu_renter_theme"
_DARK: Final = {"dark": True, "light": False}
_STAKES: Final = {
    "SIMULATION": ("", "A chain on this machine: no real money moves"),
    "TEST NETWORK": ("warn", "A public test network: its dollars are worth nothing"),
    "LIVE": ("bad", "Real money: what is paid here is gone"),
}
_FLIP: Final = """() => {
  const dark = !document.body.classList.contains('body--dark');
  document.cookie = 'gpu_renter_theme=' + (dark ? 'dark' : 'light')
    + ';path=/;max-age=31536000;samesite=strict';
  emit(dark);
}"""


@dataclass(slots=True)
class Page:
    """One open page: for whom, on what, and where it says what is wrong."""

    client: Client
    dashboard: Dashboard
    visitor: Visitor
    banner: Part

    def follow(self, watch: Watch[T], draw: Callable[[T], None], *, quietly: bool = False) -> None:
        """Draw each reading while the page is open; a failure shows in the banner meanwhile.

        quietly: it does not.
        """

        def look(reading: T | RenterError) -> None:
            if self.client.is_deleted:
                return
            with self.client:
                if isinstance(reading, RenterError):
                    if not quietly:
                        self.warn(str(reading))
                else:
                    if not quietly:
                        self.warn("")
                    draw(reading)

        _look: Look[T] = look
        self.client.on_delete(watch.look(_look))

    def warn(self, problem: str) -> None:
        """Say what is wrong above the page; nothing is wrong with ""."""
        self.banner.show(problem, lambda: problem and text("div", problem, "banner", role="alert"))

    async def services(self) -> Services:
        return await self.dashboard.keeper.services()

    async def doing(self, deed: Callable[[Services, Visitor], Awaitable[str]]) -> bool:
        """Do something for the visitor, and say how it went; with the rights they have now."""
        try:
            visitor = await self.dashboard.visitors.again(self.visitor)
            if visitor is None:
                self.client.open("/sign-in")
                return False
            self.visitor = visitor
            said = await deed(await self.services(), visitor)
        except RenterError as error:
            self.tell(str(error), "negative")
            return False
        except Exception:
            LOG.exception("what was asked for on a page failed")
            self.tell("The server failed to do this. Its log says what went wrong", "negative")
            return False
        if said:
            self.tell(said)
        return True

    async def quietly(self, deed: Callable[[Services, Visitor], Awaitable[str]]) -> bool:
        """Do something again and again without a word; False when the visitor may not any more."""
        try:
            visitor = await self.dashboard.visitors.again(self.visitor)
            if visitor is None:
                return False
            await deed(await self.services(), visitor)
        except (Forbidden, NotFound):
            return False
        except RenterError as error:
            LOG.info("a page's step failed, and is tried again: %s", error)
        except Exception:
            LOG.exception("a page's step failed, and is tried again")
        return True

    def tell(self, words: str, kind: str = "info") -> None:
        with self.client:
            ui.notify(words, type=kind, position="bottom", timeout=3500)  # type: ignore[arg-type]


@contextmanager
def page(request: Request, here: str, title: str) -> Iterator[Page]:
    """The frame of a page; to be filled in the block."""
    dashboard: Dashboard = request.scope[SCOPE_KEY]
    visitor: Visitor = request.scope[VISITOR_KEY]
    client = ui.context.client
    client.title = title
    dark = ui.dark_mode(_DARK.get(request.cookies.get(THEME_COOKIE, "")))
    text("a", "Skip to the content", "skip", href="#main")
    with box("header", "top"):
        with box("a", "brand", href="/", aria_label="GPU Renter, all runs"):
            text("span", "GPU Renter")
        with box("nav", aria_label="Pages"):
            for name, path in (("Runs", "/"), ("Vendors", "/vendors")):
                current = "page" if path == here else None
                text("a", name, href=path, aria_current=current)
        stakes = Part(box("div", "stakes", data_part="stakes"))
        with box("div", "end"):
            button(
                "◐",
                lambda e: _set_dark(dark, e),
                "quiet",
                js=_FLIP,
                aria_label="Light or dark",
                title="Light or dark",
            )
            if visitor.session is not None:
                with box("form", method="post", action="/sign-out"):
                    text("button", "Sign out", "btn quiet", type="submit")
    banner = Part(box("div"))
    with box("div", "page", id="main", tabindex="-1"):
        open_page = Page(client, dashboard, visitor, banner)
        # What the wallet holds is everybody's, as the metrics are.
        with_balance = visitor.may(Scope.READ) and visitor.owner is None
        open_page.follow(
            dashboard.watches.funds(),
            lambda funds: stakes.show(funds, lambda: _stakes(funds, with_balance)),
            quietly=True,
        )
        yield open_page


def _stakes(funds: WalletBalance, with_balance: bool) -> None:
    """Whether this is play or real money, on which network, and what the wallet holds there."""
    network = funds.network
    look, meaning = _STAKES[network.stakes]
    text("span", network.stakes, f"pill {look}", title=meaning)
    text("span", network.name, "soft small")
    if with_balance:
        held = "balance unknown" if funds.balance is None else f"{funds.balance} in the wallet"
        text("span", held, "soft small num")


def _set_dark(dark: ui.dark_mode, event: GenericEventArguments) -> None:
    dark.value = bool(event.args)


async def confirmed(question: str, detail: str, yes: str, no: str) -> bool:
    """Ask in a dialog; False unless it is answered with yes."""
    with ui.dialog() as dialog, box("div", "ask", role="document"):
        text("h2", question)
        text("p", detail, "soft")
        with box("div", "row"):
            button(no, lambda: dialog.submit(False), autofocus="")
            button(yes, lambda: dialog.submit(True), "danger")
    try:
        return bool(await dialog)
    finally:
        dialog.delete()
