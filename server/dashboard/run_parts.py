"""The parts of a run's page that only show: budget, jobs, payments, choices, timeline, logs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from domain.goals.reading import hours
from domain.jobs import JobStatus
from domain.journal import Entry
from domain.names import Names, named, short
from domain.payments import PaymentState
from ledger.jobs import Job
from ledger.payments import Payment
from ledger.run import RecordedOffer, Run
from server.api.views import payment_view
from server.chat.decisions import how_decided, model_use
from server.dashboard.actions import artifact_address
from server.dashboard.journal_view import Choice, Quoted
from server.dashboard.plots import Curves, loss_plot
from server.dashboard.widgets import box, budget_bar, card, day, text, when

MOST_LINES: Final = 300
MOST_DECISIONS: Final = 200

_JOB_LOOK: Final = {
    JobStatus.COMPLETED: "good",
    JobStatus.FAILED: "bad",
    JobStatus.CANCELLED: "warn",
}
_PAYMENT_LOOK: Final = {
    PaymentState.SETTLED: "good",
    PaymentState.REFUNDED: "good",
    PaymentState.REFUSED: "bad",
    PaymentState.EXPIRED: "bad",
    PaymentState.RELEASED: "",
}


def draw_budget(run: Run) -> None:
    with card(f"Budget · {run.budget_total}", name="budget"):
        budget_bar(run)
        with box("dl", "money num"):
            for css, name, amount in (
                ("spent", "Spent", run.spent),
                ("held", "Reserved", run.reserved),
                ("left", "Left", run.budget_remaining),
            ):
                with box("div", css):
                    text("dt", name, css)
                    text("dd", str(amount))
        used = run.model
        cost = "" if used.cost is None else str(used.cost)
        if told := model_use(used.calls, used.tokens_in, used.tokens_out, cost):
            text("p", told, "soft small words").style("margin-top:10px")


def draw_jobs(jobs: Sequence[Job], names: Names, asked: Collection[str] = ()) -> None:
    """asked: the ids of the jobs for which more time waits for a person's approval."""
    if not jobs:
        text("p", "No job.", "soft")
    for job in jobs:
        colour = _JOB_LOOK.get(job.status, "live")
        share = min(1.0, max(0.0, job.progress))
        name = names[job.vendor_id]
        with box("div", "job", data_job=job.id):
            with box("div", "row"):
                text("span", name, "strong")
                text("span", f"{job.gpu_type} · {job.minutes} min paid", "soft small num")
                text("span", f"{job.status.value} {share:.0%}", f"pill num {colour}")
            label = f"{name}: {share:.0%}"
            with box("div", "bar thin", role="img", aria_label=label):
                box("i", f"done {colour}").style(f"width:{share:.0%}")
            if job.id in asked:
                text("p", "More time for it waits for your approval.", "warn small words")
            if job.error_message:
                text("p", job.error_message, "bad small words")
            if job.artifact_sha256:
                with box("p", "small words"):
                    text(
                        "a",
                        "Download the result",
                        "strong",
                        download="",
                        href=artifact_address(job.run_id),
                        title=f"On the server: {job.artifact_path}",
                    )
                text("p", f"sha256 {job.artifact_sha256}", "soft small words")


class LossPlot:
    """The loss of each job; made with the first value, and updated in place."""

    def __init__(self) -> None:
        self._place = box("div")
        self._chart: ui.echart | None = None
        self._shown: object = None

    def show(self, curves: Curves, names: Mapping[str, str]) -> None:
        key = repr(curves)
        if not curves or key == self._shown:
            return
        self._shown = key
        options = loss_plot(curves, names)
        if self._chart is None:
            with self._place:
                self._chart = ui.echart(options, renderer="svg").classes("plot")
                self._chart.props["role"] = "img"
                self._chart.props["aria-label"] = "Loss by epoch, a line for each job"
        else:
            self._chart.options.clear()
            self._chart.options.update(options)
            self._chart.update()


def draw_payments(payments: Sequence[Payment], names: Names) -> None:
    if not payments:
        text("p", "Nothing paid.", "soft")
        return
    with box("div", "scroll"), box("table"):
        with box("thead"), box("tr"):
            for head in ("To", "State", "Transaction"):
                text("th", head, scope="col")
            text("th", "Amount", "end", scope="col")
        with box("tbody"):
            for payment in payments:
                _payment(payment, names)


def _payment(payment: Payment, names: Names) -> None:
    view = payment_view(payment)
    with box("tr", data_payment=payment.id):
        text("td", names[payment.vendor_id], "strong name")
        with box("td"):
            state = payment.state
            text(
                "span",
                state.value,
                _PAYMENT_LOOK.get(state, "warn"),
                title=named(payment.reason, names) or None,
            )
        with box("td", "mono"):
            tx = payment.tx_id or ""
            if view.explorer_url:
                text(
                    "a",
                    short(tx),
                    href=view.explorer_url,
                    target="_blank",
                    rel="noopener noreferrer",
                    title=tx,
                )
            else:
                text("span", short(tx) or "–", title=tx or None)
        with box("td", "end num"):
            text("span", str(payment.amount))
            if payment.refunded:
                text("div", f"{payment.refunded} back", "good small")


def draw_choices(found: Sequence[Choice], offers: Sequence[RecordedOffer], names: Names) -> None:
    """Each comparison of vendors, the newest first; the last one with its verdicts."""
    if not found:
        text("p", "No vendor chosen.", "soft")
    verdicts = {offer.quote.vendor_id: offer for offer in offers}
    for number in range(len(found), 0, -1):
        choice = found[number - 1]
        last = number == len(found)
        with box("div", "choice", data_choice=str(number)):
            text("div", f"Choice {number}", "soft small")
            text("p", named(choice.reason, names), "why words")
            for line in choice.how:
                text("p", named(line, names), "how soft small words")
            if not choice.quotes:
                continue
            _offered(choice, verdicts if last else {}, names)


def _offered(choice: Choice, verdicts: Mapping[str, RecordedOffer], names: Names) -> None:
    with box("div", "scroll"), box("table"):
        with box("thead"), box("tr"):
            for head, css in (("Vendor", ""), ("Paid first", "end"), ("Whole job", "end")):
                text("th", head, css, scope="col")
        with box("tbody"):
            for quoted in choice.quotes:
                offer = verdicts.get(quoted.vendor_id)
                _offer(quoted, offer.verdict if offer else quoted.verdict, names)


def _offer(quoted: Quoted, verdict: str, names: Names) -> None:
    with box("tr", "taken" if quoted.taken else ""):
        with box("td", "name"):
            text("span", names[quoted.vendor_id])
            if verdict and not quoted.taken:
                text("div", verdict, "soft small")
        with box("td", "end num"):
            text("span", str(quoted.price or "–"))
            if quoted.minutes:
                text("div", f"for {hours(quoted.minutes)}", "soft small")
        text("td", str(quoted.whole or "–"), "end num")


class Timeline:
    """The decisions, the newest on top; new ones are put in without drawing the others again."""

    def __init__(self) -> None:
        with box("div", "scrolls", tabindex="0", role="region", aria_label="Timeline, scrollable"):
            self._list = box("ol", "timeline")
        self._last = 0
        self._drawn_for: object = None

    def show(self, entries: Sequence[Entry], names: Names, now: datetime) -> None:
        drawn_for = (day(now), tuple(sorted(names.items())))
        if drawn_for != self._drawn_for:
            self._drawn_for = drawn_for
            self._list.clear()
            self._last = 0
        for entry in [e for e in entries if e.seq > self._last][-MOST_DECISIONS:]:
            self._last = entry.seq
            with self._list, box("li", entry.note.type.tone, data_seq=str(entry.seq)) as line:
                with box("div", "head"):
                    text("span", entry.note.type.heading, "what")
                    when(entry.created_at, now)
                text("p", named(entry.note.content, names), "words")
                for how in how_decided(entry.note.type, entry.note.data):
                    text("p", named(how, names), "soft small words")
            line.move(target_index=0)


class Logs:
    """The vendors' log lines, the last ones in view."""

    def __init__(self) -> None:
        with box("div", "logs", tabindex="0", role="log", aria_label="The vendors' logs"):
            self._text = TextElement(tag="pre", text="No log lines.")

    def show(self, entries: Sequence[Entry]) -> None:
        if entries:
            lines = "\n".join(entry.note.content for entry in entries[-MOST_LINES:])
            if lines != self._text.text:
                self._text.text = lines
