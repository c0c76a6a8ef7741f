"""Small pieces for building pages. Text stays text: nothing of it is read as HTML or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import UTC, date, datetime
from typing import Any, Final

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from domain.jobs import RunStatus
from domain.money import Usd
from ledger.run import Run

STATUS_LOOK: Final = {
    RunStatus.RUNNING: "live",
    RunStatus.COMPLETED: "good",
    RunStatus.FAILED: "bad",
    RunStatus.CANCELLED: "warn",
}
_NOTHING: Final = object()


def box(tag: str = "div", css: str = "", /, **attributes: Any) -> Element:
    """An element that holds others. `attributes`: HTML's, with _ for -."""
    return _with(ui.element(tag), css, attributes)


def text(tag: str, words: str, css: str = "", /, **attributes: Any) -> Element:
    """An element that holds words, shown as they are."""
    return _with(TextElement(tag=tag, text=words), css, attributes)


def button(
    words: str,
    do: Callable[..., Any] | None,
    css: str = "",
    *,
    js: str = "() => emit()",
    **attributes: Any,
) -> Element:
    """A button. `js` says what the browser does first, and what it emits to `do`; without `do`, it
    is all that is done.
    """
    made = text("button", words, f"btn {css}".strip(), type="button", **attributes)
    return made.on("click", do, js_handler=js)


def card(title: str, css: str = "", name: str = "") -> Element:
    """A titled section; to be used as a context."""
    made = box("section", f"card {css}".strip(), aria_label=title, data_part=name or None)
    with made:
        text("h2", title)
    return made


def pill(run: Run, waits: bool = False) -> Element:
    """A small label with a run's status. waits: whether a question of it waits for a person."""
    return text("span", *pill_of(run, waits))


def pill_of(run: Run, waits: bool = False) -> tuple[str, str]:
    """The label's words, and its CSS classes."""
    if waits and not run.status.ended:
        return "waits for you", "pill warn"
    return run.status.value, f"pill {STATUS_LOOK.get(run.status, '')}"


def when(moment: datetime, now: datetime) -> Element:
    """A moment in UTC: the time of the day, and before it the date where that is not today's."""
    at = moment.astimezone(UTC)
    shown = f"{at:%H:%M:%S}" if at.date() == day(now) else f"{at:%Y-%m-%d %H:%M}"
    return text("time", shown, datetime=at.isoformat(), title=f"{at:%Y-%m-%d %H:%M:%S} UTC")


def day(now: datetime) -> date:
    """Today in UTC: what `when` shows changes with it."""
    return now.astimezone(UTC).date()


def share_of(part: Usd, whole: Usd) -> str:
    """A CSS width."""
    return f"{100 * part.micros / whole.micros:.2f}%" if whole.micros else "0%"


def budget_bar(run: Run) -> Element:
    label = f"{run.spent} spent, {run.reserved} reserved, {run.budget_remaining} left"
    bar = box("div", "bar", role="img", aria_label=label)
    with bar:
        box("i", "spent").style(f"width:{share_of(run.spent, run.budget_total)}")
        box("i", "held").style(f"width:{share_of(run.reserved, run.budget_total)}")
    return bar


class Part:
    """A place on a page that is drawn anew only when what it shows has changed."""

    def __init__(self, place: Element) -> None:
        self.place = place
        self._shown: object = _NOTHING

    def show(self, key: Hashable, draw: Callable[[], Any]) -> None:
        """Draw this part again, unless `key`, which stands for its content, is as it was."""
        if key == self._shown:
            return
        self._shown = key
        self.place.clear()
        with self.place:
            draw()


def _with(element: Element, css: str, attributes: dict[str, Any]) -> Element:
    if css:
        element.classes(css)
    for name, value in attributes.items():
        if value is not None:
            element.props[name.strip("_").replace("_", "-")] = value
    return element
