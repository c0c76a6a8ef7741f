"""What would be done for a goal, as JSON and in words: told by a server, or by a command."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from domain.goals.reading import hours
from domain.names import named
from domain.ranking import Decision, Rent, Wait

if TYPE_CHECKING:
    from graph.planner.dry_run import Plan


def plan_view(made: Plan, note: str) -> dict[str, Any]:
    """The plan as JSON values: the seed's names, null for what was not said."""
    reading, spec = made.reading, made.spec
    guesses = {
        "jobType": spec.job_type,
        "gpuType": spec.gpu_type,
        "maxHours": spec.hours,
    }
    return {
        "jobSpec": {
            "jobType": reading.job_type,
            "gpuType": reading.gpu_type,
            "gpuCount": reading.gpu_count,
            "maxHours": reading.minutes / 60 if reading.minutes else None,
            "budgetTotal": reading.budget.dollars() if reading.budget else None,
            "deadline": reading.deadline.isoformat() if reading.deadline else None,
            "preference": reading.preference.value if reading.preference else None,
            "excludedVendors": list(spec.excluded_vendors),
            "onlyVendors": list(spec.only_vendors),
            "gpuTypes": list(spec.gpu_types),
            "maxHourly": spec.max_hourly.dollars() if spec.max_hourly else None,
            "missing": list(reading.missing),
        },
        "guessed": {name: guesses[name] for name in spec.guessed},
        "question": made.question or None,
        "notUsed": list(made.leaves_out.words),
        "offers": [
            {
                "vendorId": offer.vendor.vendor_id,
                "vendorName": offer.vendor.name,
                "vendorJobTemplateId": offer.quote.template_id,
                "gpuType": offer.quote.gpu_type,
                "minutes": offer.quote.minutes,
                "price": offer.quote.price.dollars(),
                "wholeJob": offer.projected.dollars(),
                "verdict": verdict,
            }
            for offer, verdict in made.offers
        ],
        "noOffer": [
            {"vendorId": silence.vendor_id, "problem": silence.problem} for silence in made.silent
        ],
        "decision": _decision_view(made),
        "reader": made.heard.reader,
        "paid": 0,
        "note": note or None,
    }


def _decision_view(made: Plan) -> dict[str, Any] | None:
    if made.decided is None:
        return None
    decision = made.decided.decision
    view: dict[str, Any] = {"action": type(decision).__name__.lower()}
    if isinstance(decision, Rent):
        view |= {
            "vendorId": decision.quote.vendor_id,
            "vendorJobTemplateId": decision.quote.template_id,
            "minutes": decision.quote.minutes,
            "price": decision.quote.price.dollars(),
        }
    return view | {"reason": decision.reason, "planner": made.decided.planner}


def plan_text(made: Plan, note: str, columns: int) -> str:
    """The plan in words, for a terminal so wide."""
    console = Console(file=StringIO(), width=columns, highlight=False)
    with console.capture() as captured:
        show(made, note, console)
    return captured.get()


def show(made: Plan, note: str, console: Console | None = None) -> None:
    """Print the plan for a person."""
    console = console or Console(highlight=False)
    console.print(_understood(made))
    offers = _offers(made)
    if offers.row_count:
        console.print("", offers, sep="\n")
    if made.decided is not None:
        reason = named(made.decided.decision.reason, made.names)
        console.print(Text(f"\n{_would(made.decided.decision)}: {reason}"))
    question = made.question and f"It would ask first: {made.question}"
    for line in (made.leaves_out.line, question, note, "Nothing was rented or paid."):
        if line:
            console.print(Text(line))


def _understood(made: Plan) -> Table:
    """The goal as it was understood; what it does not say and what was assumed for it."""
    reading, spec = made.reading, made.spec
    said = {
        "Job": reading.job_type,
        "GPU": reading.gpu_type and f"{spec.gpu_count} × {spec.gpu}",
        "Time": reading.minutes and hours(reading.minutes),
        "Budget": reading.budget and str(reading.budget),
        "Per hour": spec.max_hourly and f"at most {spec.max_hourly}",
        "Deadline": reading.deadline and f"{reading.deadline:%Y-%m-%d %H:%M %Z}",
        "Preference": reading.preference and f"{reading.preference.value} first",
        "Only from": ", ".join(made.names[v] for v in spec.only_vendors),
        "Not from": ", ".join(made.names[v] for v in spec.excluded_vendors),
    }
    assumed = {
        "Job": spec.job_type,
        "GPU": f"{spec.gpu_count} × {spec.gpu}",
        "Time": hours(spec.minutes),
    }
    asked = {"Job": "jobType", "GPU": "gpuType", "Budget": "budgetTotal", "Deadline": "deadline"}
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in said.items():
        if value:
            table.add_row(name, Text(value))
        elif asked.get(name) in reading.missing and not made.asks:
            table.add_row(name, Text("not clear yet", style="yellow"))
        elif name in assumed:
            table.add_row(name, Text(f"{assumed[name]} (not said, so assumed)"))
    return table


def _offers(made: Plan) -> Table:
    """Who offers what, and who nothing."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Offers", overflow="fold")
    table.add_column("GPU")
    table.add_column("Paid first", no_wrap=True)
    table.add_column("Whole job", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for offer, verdict in made.offers:
        quote = offer.quote
        table.add_row(
            Text(made.names[quote.vendor_id]),
            Text(quote.gpu_type),
            f"{quote.price} for {hours(quote.minutes)}",
            str(offer.projected),
            Text(verdict),
        )
    for silence in made.silent:
        name = made.names[silence.vendor_id]
        table.add_row(Text(name), "", "", "", Text(silence.problem))
    return table


def _would(decision: Decision) -> str:
    """What it would do, in words."""
    match decision:
        case Rent():
            return f"It would pay {decision.quote.price} and start"
        case Wait():
            return "It would wait"
        case _:
            return "It would rent nothing"
