"""`plan`: the dry run of a goal. Prints what was understood and what would be rented; pays nothing.

Where nothing runs that could be asked for offers, it prints what was understood, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from server.commands.runs import UrlOption
from server.terminal.output import JsonOption, print_json
from server.terminal.process import run

if TYPE_CHECKING:
    from domain.money import Usd
    from graph.planner.dry_run import Plan

NO_MARKET: Final = (
    "No vendor was asked: nothing runs here. Start gpu-renter serve, or set MONGODB_URI"
)


def plan(
    goal: Annotated[str, typer.Argument(help="What to do, in plain words.", metavar="GOAL")],
    budget: Annotated[
        str | None, typer.Option(help="The most to spend, in dollars, if the goal does not say.")
    ] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a goal is understood, what is on offer, and what would be rented. Pays nothing.

    A question is answered with what is on offer, and what it costs.

    [dim]$[/] gpu-renter plan "Fine-tune Llama 8B on an A100 for two hours, under $5"
    [dim]$[/] gpu-renter plan "How much would 4h of A100 cost?"
    """
    from domain.goals import check_goal
    from domain.money import Usd

    asked = check_goal(goal)
    dollars = None if budget is None else Usd.parse(budget, "--budget", above_zero=True)
    told = run(_told(asked, dollars, url))
    if as_json:
        del told["text"]
        print_json(told)
    else:
        typer.echo(told["text"], nl=False)


async def _told(goal: str, budget: Usd | None, url: str | None) -> dict[str, Any]:
    """The plan of a server, or where none runs, one made here; with its text for this terminal."""
    from rich.console import Console

    from server.reports.plan import plan_text, plan_view
    from server.terminal.client import ServerClient, through_server

    columns = min(400, max(40, Console().width))

    async def ask(server: ServerClient) -> dict[str, Any]:
        said = {} if budget is None else {"budgetTotal": budget.exact()}
        return await server.order("/api/plan", goal=goal, columns=columns, **said)

    told = await through_server(url, ask)
    if told is not None:
        return told
    made, note = await _plan(goal, budget)
    return plan_view(made, note) | {"text": plan_text(made, note, columns)}


async def _plan(goal: str, budget: Usd | None) -> tuple[Plan, str]:
    from domain.utterance import Utterance
    from graph.planner.dry_run import understand_goal, with_offers
    from server.config.settings import Settings
    from server.local.stack import attach
    from server.wiring import now, open_market, open_reader

    settings = Settings.load()
    reader = open_reader(settings)
    try:
        at = now()
        made = await understand_goal(reader, Utterance(goal, at), budget)
    finally:
        await reader.aclose()
    attached = await attach(settings)
    if attached is None:
        return made, NO_MARKET
    async with open_market(attached) as market:
        if not market.vendors:
            return made, "No vendor is registered. See: gpu-renter vendors add --help"
        return await with_offers(made, market, goal, at), ""
