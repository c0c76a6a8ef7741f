"""The first page: say what to run; all runs at a glance."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from textwrap import shorten
from typing import Final

from starlette.requests import Request

from domain.names import Names, named, names_of
from domain.quotes import Vendor
from graph.routing import Phase
from ledger.run import Run
from server.access import Scope
from server.chat.phases import DOES
from server.dashboard.chat_panel import Talk
from server.dashboard.layout import page
from server.dashboard.live_queries import Listed
from server.dashboard.sessions import TALK
from server.dashboard.widgets import Part, box, budget_bar, card, day, pill, text, when
from server.wiring import now

EXAMPLES: Final = (
    "Fine-tune a 7B model on an A100, under $5",
    "Batch inference on an A10 for 30 minutes, at most $2, cheapest vendor",
)

LONGEST_REASON: Final = 160
"""Characters of why a run ended, in its line; its page has the whole of it."""


def home(request: Request) -> None:
    with page(request, "/", "Runs · GPU Renter") as here:
        if here.visitor.may(*TALK):
            with box("section", "hero", aria_label="Start a run"):
                text("h1", "What should run?", "title")
                text(
                    "p",
                    "Say what to run and for how much at most. The agent finds a GPU, "
                    "pays for it and watches over it.",
                    "lead",
                )
                talk = Talk(
                    here,
                    placeholder=EXAMPLES[0],
                    label="What to run, and for how much at most",
                    send="Start",
                    big=True,
                )
                with box("div", "hints", aria_label="Examples", role="group"):
                    for example in EXAMPLES:
                        talk.hint(example)
        else:
            text("h1", "Runs", "title")
            text("p", "Your API key cannot talk with the agent: it lacks a scope.", "lead")
        with card("Runs", "runs"):
            runs = Part(box("div", aria_live="off"))
        if not here.visitor.may(Scope.READ):
            runs.show("no", lambda: text("p", "Your API key lacks the scope read.", "empty"))
            return
        runs.show("loading", lambda: text("p", "Loading …", "empty"))
        lines = RunLines(runs)
        here.follow(here.dashboard.watches.vendors(), lines.name)
        here.follow(here.dashboard.watches.runs(here.visitor.owner), lines.draw)


class RunLines:
    """The runs, a line for each; a line is drawn anew when its run has changed."""

    def __init__(self, place: Part) -> None:
        self._place = place
        self._lines: dict[str, Part] = {}
        self._names = Names()

    def name(self, vendors: list[Vendor]) -> None:
        self._names = names_of(vendors)

    def draw(self, listed: list[Listed]) -> None:
        order = tuple(one.run.id for one in listed)
        self._place.show(order or "none", lambda: self._lay_out(order))
        at = now()
        for one in listed:
            run, facts, waits = one.run, _facts(one, self._names), bool(one.waiting)
            money = (run.budget_total, run.budget_remaining, run.spent)
            key = (day(at), run.updated_at, run.status, run.phase, waits, money, *facts)
            draw = partial(_line, run, facts, at, waits)
            self._lines[run.id].show(key, draw)

    def _lay_out(self, order: tuple[str, ...]) -> None:
        self._lines = {run_id: Part(box("div")) for run_id in order}
        if not order:
            text("p", "No runs yet. Say above what should run.", "empty")


def _line(run: Run, facts: list[str], at: datetime, waits: bool) -> None:
    with box("a", "run", href=f"/runs/{run.id}", data_run=run.id):
        with box("div"):
            text("div", run.goal, "goal")
            with box("div", "soft small"):
                for fact in facts:
                    text("span", f"{fact} · ")
                text("span", "begun ")
                when(run.created_at, at)
        pill(run, waits)
        with box("div", "spend"):
            budget_bar(run)
            text("div", f"{run.spent} of {run.budget_total}", "num small soft")


def _facts(listed: Listed, names: Names) -> list[str]:
    run = listed.run
    by_the_pill = run.status.ended or run.phase == Phase.APPROVE.value
    phase = "" if by_the_pill else DOES.get(run.phase, "")
    vendor = next((o.quote.vendor_id for o in run.offers if o.verdict == "taken"), "")
    reason = shorten(named(run.reason, names), LONGEST_REASON, placeholder=" …")
    asked = [a.asks_for(names[a.vendor_id]) for a in listed.waiting]
    if asked:
        return asked
    told = (reason or phase, names[vendor])
    return [fact for fact in told if fact]
