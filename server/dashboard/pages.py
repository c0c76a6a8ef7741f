"""The pages as NiceGUI serves them. Loaded with the first visit, for it takes a second."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from nicegui import ui

from server.dashboard.home import home
from server.dashboard.run_page import run_page
from server.dashboard.theme import SHEET
from server.dashboard.vendors_page import vendors

FAVICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" '
    'rx="5" fill="#3b4fd8"/><path d="M8 0v8L2 14.5A5 5 0 0 1 0 11V5a5 5 0 0 1 5-5z" '
    'fill="#15753b"/></svg>'
)
RECONNECT_S: Final = 20.0
"""A phone that was in a pocket for so long finds its page as it was."""


ui.page("/")(home)
ui.page("/runs/{run_id}")(run_page)
ui.page("/vendors")(vendors)


def shell() -> FastAPI:
    """An app with the pages and NiceGUI's own addresses, and nothing else."""
    shell = FastAPI(openapi_url=None)
    ui.add_css(SHEET, shared=True)
    ui.run_with(
        shell,
        title="GPU Renter",
        favicon=FAVICON,
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    return shell
