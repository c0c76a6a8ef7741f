"""`plan`: the dry run of a goal. Prints what was understood and what would be rented; pays nothing.

Where nothing runs that could be asked for offers, it prints what was understood, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.commands.output import JsonOption, print_json
from server.commands.process import run

if TYPE_CHECKING:
    from domain.money import Usd
    from graph.plan import Plan

NO_MARKET: Final = (
    "No vendor was asked: nothing runs here. Start gpu-renter serve, or set MONGODB_URI"
)


def plan(
    goal: Annotated[str, typer.Argument(help="What to do, in plain words.", metavar="GOAL")],
    budget: Annotated[
        str | None, typer.Option(help="The most to spend, in dollars, if the goal does not say.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a goal is understood, what is on offer, and what would be rented. Pays nothing.

    [dim]$[/] gpu-renter plan "Fine-tune Llama 8B on an A100 for two hours, under $5"
    """
    from domain.errors import InvalidInput
    from domain.goals import check_goal
    from domain.money import Usd

    asked = check_goal(goal)
    dollars = Usd.parse(budget, "--budget") if budget is not None else None
    if dollars is not None and not dollars:
        raise InvalidInput("--budget", "it must be above 0", "Give dollars, like 5")
    made, note = run(_plan(asked, dollars))
    if as_json:
        print_json(plan_view(made, note))
    else:
        _show(made, note)


async def _plan(goal: str, budget: Usd | None) -> tuple[Plan, str]:
    from graph.plan import understand_goal, with_offers
    from graph.settings import Settings
    from graph.wiring import now, open_market, open_reader
    from server.local import attach

    settings = Settings.load()
    reader = open_reader(settings)
    try:
        at = now()
        made = await understand_goal(reader, goal, budget, at)
    finally:
        await reader.aclose()
    attached = await attach(settings)
    if attached is None:
        return made, NO_MARKET
    async with open_market(attached) as market:
        if not market.vendors:
            return made, "No vendor is registered. See: gpu-renter vendors add --help"
        return await with_offers(made, market, goal, at), ""


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
            "missing": list(reading.missing),
        },
        "guessed": {name: guesses[name] for name in spec.guessed},
        "question": reading.question or None,
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
    from domain.ranking import Rent

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


def _show(made: Plan, note: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view, console = plan_view(made, note), Console()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in view["jobSpec"].items():
        shown = ", ".join(value) if isinstance(value, list) else value
        guess = view["guessed"].get(name)
        said = "-" if shown in (None, "") else f"{shown:g}" if isinstance(shown, float) else shown
        table.add_row(name, Text(f"not said, {guess} is assumed" if guess else str(said)))
    console.print(table)
    offers = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("Offer", "GPU", "Minutes", "Price", "Whole job", ""):
        offers.add_column(column)
    for offer, verdict in made.offers:
        quote = offer.quote
        offers.add_row(
            Text(offer.vendor.vendor_id), Text(quote.gpu_type), str(quote.minutes),
            str(quote.price), str(offer.projected), Text(verdict),
        )  # fmt: skip
    for silence in made.silent:
        offers.add_row(Text(silence.vendor_id), "", "", "", "", Text(silence.problem))
    if offers.row_count:
        console.print("", offers, sep="\n")
    if made.decided is not None:
        decision = view["decision"]
        whom = f" {decision['vendorId']}" if "vendorId" in decision else ""
        console.print(Text(f"\nIt would {decision['action']}{whom}: {decision['reason']}"))
    for line in (view["question"], note, "Nothing was rented or paid."):
        if line:
            console.print(Text(str(line)))
