"""A run's page: all that is known of it, live, and what a person can do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from nicegui import background_tasks
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from domain.approvals import Approval
from domain.errors import NotFound, RenterError
from domain.names import Names, named, names_of, short
from graph.routing import Phase
from ledger.run import Run
from server.access import Scope
from server.api.views import extends, waiting_of
from server.dashboard import actions
from server.dashboard.chat_panel import Talk
from server.dashboard.journal_view import choices, decisions, logs, losses, visits
from server.dashboard.layout import Page, confirmed, page
from server.dashboard.live_queries import Seen
from server.dashboard.run_graph import draw_graph
from server.dashboard.run_parts import (
    Logs,
    LossPlot,
    Timeline,
    draw_budget,
    draw_choices,
    draw_jobs,
    draw_payments,
)
from server.dashboard.sessions import TALK
from server.dashboard.widgets import Part, box, button, card, day, pill, pill_of, text, when

LEFT_ALONE: Final = timedelta(seconds=2)
"""A run overdue for so long seems to have no worker, so its page offers to tick it."""
PACE_S: Final = 1.0
"""Seconds between two ticks that a page makes by itself."""


async def run_page(request: Request, run_id: str) -> None:
    with page(request, "", "Run · GPU Renter") as here:
        try:
            services = await here.services()
            await actions.run_of(services, here.visitor, run_id, Scope.READ)
        except NotFound as missing:
            here.client.status_code = 404
            _not_there(str(missing))
            return
        except RenterError as error:
            here.warn(str(error))
        RunPage(here, run_id, moving=request.query_params.get("move") == "1")


def _not_there(why: str) -> None:
    text("h1", "No such run", "title")
    text("p", why, "lead")
    text("a", "All runs", href="/")


class RunPage:
    """The page of one run, drawn part by part as they change."""

    def __init__(self, here: Page, run_id: str, *, moving: bool) -> None:
        self._here = here
        self._id = run_id
        self._run: Run | None = None
        self._waits = False
        self._left_alone = False
        self._moving = moving and here.visitor.may(Scope.TICK)
        self._mover: asyncio.Task[None] | None = None
        self._names = Names()
        self._talk: Part | None = None
        self._lay_out()
        here.follow(
            here.dashboard.watches.vendors(), lambda found: self._names.update(names_of(found))
        )
        here.follow(here.dashboard.watches.run(run_id), self._draw)
        here.client.on_delete(self._stop_moving)

    def _lay_out(self) -> None:
        self._head = Part(box("div"))
        self._head.show("loading", lambda: text("p", "Loading …", "empty"))
        self._controls = Part(box("div", "row controls"))
        with box("div", "stack").style("margin-top:16px"):
            self._approval = Part(box("div", "stack", aria_live="polite"))
            with card("Where it is", name="graph"):
                self._graph = Part(box("div"))
        with box("div", "columns"):
            with box("div", "stack"):
                with card("Jobs", name="jobs"):
                    self._jobs = Part(box("div"))
                    self._losses = LossPlot()
                with card("Vendors compared", name="choices"):
                    self._choices = Part(box("div"))
                with card("Logs", name="logs"):
                    self._logs = Logs()
            with box("div", "stack"):
                self._budget = Part(box("div", "first"))
                with card("Payments", name="payments"):
                    self._payments = Part(box("div"))
                if self._here.visitor.may(*TALK):
                    with card("Talk with the agent", name="talk"):
                        self._talk = Part(box("div"))
                with card("Timeline", name="timeline"):
                    self._timeline = Timeline()

    def _draw(self, seen: Seen) -> None:
        run, names = seen.run, self._names
        if not self._here.visitor.sees(run):
            self._here.client.open("/")
            return
        self._run = run
        entries = seen.entries
        marks = visits(entries)
        known = tuple(sorted(names.items()))
        waiting = waiting_of(run, seen.approvals, seen.at)
        self._waits = bool(waiting) and run.phase == Phase.APPROVE.value  # else its job goes on
        head = (pill_of(run, bool(waiting)), run.spec, run.reason, known, day(seen.at))
        self._head.show(head, lambda: _head(run, names, seen.at, bool(waiting)))
        overdue = run.due_at is not None and seen.at - run.due_at > LEFT_ALONE
        self._left_alone = not run.status.ended and (self._left_alone or overdue)
        controls = (run.status, bool(run.cancel_requested), self._left_alone)
        self._controls.show(controls, self._draw_controls)
        self._approval.show(
            (tuple(waiting), known, day(seen.at)), lambda: self._draw_approvals(waiting, seen.at)
        )
        key = (run.phase, run.status, run.cancel_requested, tuple(sorted(marks.items())))
        self._graph.show(key, lambda: draw_graph(run, marks))
        money = (run.budget_total, run.spent, run.reserved, run.budget_remaining, run.model)
        self._budget.show(money, lambda: draw_budget(run))
        jobs = tuple((j.id, j.status, j.progress, j.minutes, j.artifact_sha256) for j in seen.jobs)
        paid_in = {p.id: p.slot for p in seen.payments}
        asked = {j.id for j in seen.jobs for a in waiting if extends(a, j, paid_in)}
        self._jobs.show((jobs, known, frozenset(asked)), lambda: draw_jobs(seen.jobs, names, asked))
        vendor_of = {j.id: names[j.vendor_id] for j in seen.jobs}
        self._losses.show(losses(entries), vendor_of)
        paid = tuple((p.id, p.state, p.tx_id, p.refunded) for p in seen.payments)
        self._payments.show((paid, known), lambda: draw_payments(seen.payments, names))
        found = choices(entries)
        chosen = (tuple(choice.seq for choice in found), run.offers, known)
        self._choices.show(chosen, lambda: draw_choices(found, run.offers, names))
        self._timeline.show(decisions(entries), names, seen.at)
        self._logs.show(logs(entries))
        if self._talk is not None:
            self._talk.show("once", lambda: self._draw_talk(run))
        if self._moving and self._left_alone:
            self._start_moving()

    def _draw_talk(self, run: Run) -> None:
        Talk(
            self._here,
            placeholder="How far is it? Why this vendor?",
            label="Message to the agent",
            send="Send",
            run_id=run.id,
            user_id=run.user_id,
        )

    def _draw_controls(self) -> None:
        run = self._run
        if run is None or run.status.ended or not self._here.visitor.may(Scope.TICK):
            return
        if self._left_alone:
            button("Step", self._step, title="One step of the agent")
            with box("label", "switch", title="No worker moves this run; this page can"):
                toggle = box("input", type="checkbox", role="switch", checked=self._moving or None)
                toggle.on("change", self._switch, js_handler="(e) => emit(e.target.checked)")
                text("span", "Go on by itself while this page is open")
        if not run.cancel_requested:
            button("Cancel run", self._cancel, "danger")

    def _draw_approvals(self, waiting: Sequence[Approval], now: datetime) -> None:
        for approval in waiting:
            name = self._names[approval.vendor_id]
            with card("Waiting for your approval", "approval", "approval"):
                text("div", str(approval.price), "sum num")
                text("p", approval.asks_for(name), "words strong")
                with box("p", "words"):
                    text("span", f"paid to {name} at ")
                    text("span", approval.pay_to or "no address", "mono")
                with box("p", "soft small"):
                    text("span", "The answer counts until ")
                    when(approval.expires_at, now)
                    text("span", " UTC")
                if not self._here.visitor.may(Scope.APPROVE):
                    text("p", "Your API key cannot approve payments.", "soft")
                    continue
                with box("div", "row"):
                    most = "" if approval.price == approval.amount else "up to "
                    self._answer_button(
                        f"Approve {most}{approval.amount}", "primary", approval, True
                    )
                    self._answer_button("Reject", "danger", approval, False)

    def _answer_button(self, words: str, css: str, approval: Approval, approve: bool) -> None:
        async def answer() -> None:
            run_id, approval_id = self._id, approval.id
            await self._here.doing(
                lambda services, who: actions.decide(services, who, run_id, approval_id, approve)
            )
            self._hurry()

        button(words, answer, css)

    async def _step(self) -> None:
        await self._here.doing(lambda services, who: actions.step(services, who, self._id))
        self._hurry()

    async def _cancel(self) -> None:
        if await confirmed(
            "Cancel this run?",
            "Its job is stopped at the vendor. Unused time comes back where the vendor refunds it.",
            "Cancel the run",
            "Keep it",
        ):
            await self._here.doing(lambda services, who: actions.cancel(services, who, self._id))
            self._hurry()

    def _hurry(self) -> None:
        self._here.dashboard.watches.hurry()

    def _switch(self, event: GenericEventArguments) -> None:
        self._moving = bool(event.args)
        if self._moving:
            self._start_moving()

    def _start_moving(self) -> None:
        if self._mover is None or self._mover.done():
            self._mover = background_tasks.create(self._move(), name=f"move run {self._id}")

    def _stop_moving(self) -> None:
        self._moving = False  # a step under way is finished

    async def _move(self) -> None:
        """Step the run while this page is open. A payment that waits for a person waits."""
        while self._moving and not self._here.client.is_deleted:
            if self._run is not None and self._run.status.ended:
                return
            if not self._waits:
                quiet = await self._here.quietly(
                    lambda services, who: actions.step(services, who, self._id)
                )
                if not quiet:
                    return
                self._hurry()
            await asyncio.sleep(PACE_S)


def _head(run: Run, names: Names, now: datetime, waits: bool) -> None:
    with box("div", "row"):
        pill(run, waits)
        with box("span", "soft small"):
            text("span", f"Run {short(run.id)} · {run.user_id} · ", title=run.id)
            when(run.created_at, now)
            text("span", " UTC")
    text("h1", run.goal, "title").style("margin-top:8px")
    if run.spec is not None:
        spec = run.spec
        text(
            "p",
            f"{spec.job_type} on {spec.gpu_count} × {spec.gpu} for {spec.hours:g} h",
            "lead",
        )
    if run.not_used:
        text("p", f"Not used: {', '.join(run.not_used)}.", "lead words")
    if run.reason:
        text("p", named(run.reason, names), "lead words")
