"""The vendors: what they ask, and how their jobs for us have ended."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from starlette.requests import Request

from domain.names import short
from domain.quotes import Vendor
from server.access import Scope
from server.dashboard.layout import page
from server.dashboard.plots import record_plot
from server.dashboard.widgets import Part, box, card, text
from server.wiring import now


def vendors(request: Request) -> None:
    with page(request, "/vendors", "Vendors · GPU Renter") as here:
        text("h1", "Vendors", "title")
        text(
            "p",
            "Only registered vendors are dealt with, and only their registered address is paid.",
            "lead",
        )
        place = Part(box("div"))
        if not here.visitor.may(Scope.READ):
            place.show("no", lambda: text("p", "Your API key lacks the scope read.", "empty"))
            return
        place.show("loading", lambda: text("p", "Loading …", "empty"))

        def draw(found: list[Vendor]) -> None:
            place.show(tuple(map(repr, found)), lambda: _all(found))

        here.follow(here.dashboard.watches.vendors(), draw)


def _all(found: list[Vendor]) -> None:
    if not found:
        text("p", "No vendors yet. Register one: gpu-renter vendors add", "empty")
        return
    with box("div", "stack").style("margin-top:16px"), card("Record of jobs", name="record"):
        if any(v.completed or v.failed for v in found):
            _plot(record_plot(found), "Completed and failed jobs by vendor", 56 * len(found) + 60)
        else:
            text("p", "No job has ended yet.", "soft")
    with box("div", "vendors"):
        for vendor in found:
            _vendor(vendor)


def _plot(options: dict[str, Any], label: str, height: int) -> None:
    chart = ui.echart(options, renderer="svg").style(f"height:{height}px;width:100%")
    chart.props["role"], chart.props["aria-label"] = "img", label


def _vendor(vendor: Vendor) -> None:
    with card(vendor.name):
        for block in vendor.blocks:
            if block.until > now():
                text("p", f"{block}", "warn small").style("margin-bottom:8px")
        _facts(vendor)


def _facts(vendor: Vendor) -> None:
    with box("dl", "facts"):
        ended = vendor.completed + vendor.failed
        paid_at = short(vendor.pay_to) if vendor.pay_to else "outside x402"
        record = f"{vendor.completed} of {ended} completed" if ended else "none yet"
        for name, value, css in (
            ("Id", vendor.vendor_id, "mono"),
            ("List price", f"{vendor.price_per_hour} an hour", "num"),
            ("Registered reliability", f"{vendor.reliability:.0%}", "num"),
            ("Our record", record, "num"),
            ("GPUs", ", ".join(vendor.gpu_types), ""),
            ("Paid at", paid_at, "mono"),
            ("Address", vendor.endpoint, "mono"),
        ):
            text("dt", name)
            text("dd", value, css, title=vendor.pay_to if value == paid_at else None)
