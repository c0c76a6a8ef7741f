"""`start`, `tick`, `status` and `watch`: runs, through a running server."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from server.terminal.output import Exit, JsonOption, print_json, tell, working
from server.terminal.process import run

if TYPE_CHECKING:
    from domain.money import Usd
    from server.terminal.client import ServerClient

T = TypeVar("T")
ASKING: Final = "Asking the server"

RunArgument = Annotated[
    str, typer.Argument(help="The run's id, or its first characters (4 or more).", metavar="RUN")
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The server.  \\[default: GPU_RENTER_URL, else this machine's, at PORT or 3000]",
        show_default=False,
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option(
        help="Whose run it is.  \\[default: the owner of RENTER_API_KEY, else cli]",
        show_default=False,
    ),
]


def start(
    goal: Annotated[str, typer.Argument(help="What to do, in plain words.")],
    budget: Annotated[
        str | None, typer.Option(help="The most to spend, in dollars, if the goal does not say.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Start although the goal names what is not used.")
    ] = False,
    user: UserOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run: give the agent a goal and a budget. Nothing is spent before the first tick.

    What the goal says and the run leaves out is printed. Where that is a program, an image, a
    repository, a dataset or a start time, it starts only with your yes.

    [dim]$[/] gpu-renter start "Fine-tune a 7B model on an A100 for 2 hours, under $5"
    """
    from domain.errors import LEAVES_OUT, NotAllUsed
    from domain.goals import check_goal
    from domain.money import Usd

    asked = check_goal(goal)
    total = _budget_in(asked) if budget is None else Usd.parse(budget, "--budget", above_zero=True)

    def begin(sure: bool) -> dict[str, Any]:
        async def ask(server: ServerClient, _: str) -> dict[str, Any]:
            return await server.start(user, asked, total.dollars(), accept_not_used=sure)

        return _ask(url, "", "Starting the run", ask)

    try:
        started = begin(yes)
    except NotAllUsed as left_out:
        if not sys.stdin.isatty():
            raise
        typer.echo(f"Not used: {', '.join(left_out.words)}.", err=True)
        typer.echo(f"{LEAVES_OUT}.", err=True)
        if not typer.confirm("Start all the same?", default=False, err=True):
            raise typer.Exit(Exit.FAILED) from None
        started = begin(True)
    if as_json:
        print_json(started)
        return
    run_id = started.get("_id") or started.get("runId")
    typer.echo(f"Started run {run_id} with {total}")
    if unused := started.get("notUsed"):
        typer.echo(f"Not used: {', '.join(unused)}.")
    typer.echo(f"Follow it: gpu-renter watch {run_id}")


def _budget_in(goal: str) -> Usd:
    """The budget that the goal itself names. Raises InvalidInput where there is no such one."""
    from domain.errors import InvalidInput
    from domain.goals import MOST_UNASKED, read

    said = read(goal)
    if doubt := said.doubts.get("budgetTotal"):
        raise InvalidInput("--budget", "the goal leaves it open", doubt)
    if said.budget is None:
        remedy = "Say how much to spend at most: --budget 5"
        raise InvalidInput("--budget", "the goal does not name one", remedy)
    if said.budget > MOST_UNASKED:
        remedy = f"To say that it is meant: --budget {said.budget.exact().lstrip('$')}"
        raise InvalidInput("--budget", f"the goal names {said.budget}, which is a lot", remedy)
    return said.budget


def tick(run_id: RunArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Take a run one step further.

    [dim]$[/] gpu-renter tick 66a1f2c9d53a3f9ef1f0c123
    """
    doing = "Ticking: the agent may be asking vendors, the chain or a model"
    answer = _ask(url, run_id, doing, lambda server, whole: server.tick(whole))
    tell(answer, answer["message"], as_json)


def status(run_id: RunArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show how far a run is, and where its money went.

    [dim]$[/] gpu-renter status 66a1f2c9d53a3f9ef1f0c123
    [dim]$[/] gpu-renter status 66a1f2c9d53a3f9ef1f0c123 --json | jq .payments
    """
    answer = _ask(url, run_id, ASKING, lambda server, whole: server.status(whole))
    if as_json:
        print_json(answer)
        return
    from rich.console import Console

    from server.terminal.watch import picture

    Console().print(picture(answer, last=12))


def runs(
    user: Annotated[
        str | None, typer.Option(help="Only whose runs.  \\[default: all]", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first.

    [dim]$[/] gpu-renter runs
    [dim]$[/] gpu-renter runs --user u1 --json | jq '.[]._id'
    """
    found = _ask(url, "", ASKING, lambda server, _: server.runs(user, limit))
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo('There is no run yet. Start one: gpu-renter start "…" --budget 5')
        return
    from rich.console import Console

    from server.terminal.watch import run_list

    Console(highlight=False).print(run_list(found))


def watch(
    run_id: RunArgument,
    interval: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds between two ticks.")
    ] = 1.0,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tick a run to its end, and show it live. Exit status 1 when it does not complete.

    --json prints the status at the end instead. Ctrl-C stops the watching, not the run.

    [dim]$[/] gpu-renter watch 66a1f2c9d53a3f9ef1f0c123 --interval 5
    """
    from server.terminal.watch import follow

    async def ask(server: ServerClient, whole: str) -> dict[str, Any]:
        return await follow(server, whole, interval_s=interval, quiet=as_json)

    answer = _ask(url, run_id, "", ask)
    if as_json:
        print_json(answer)
    if answer["run"]["status"] != "completed":
        raise typer.Exit(Exit.FAILED)


def cancel(
    run_id: RunArgument,
    reason: Annotated[
        str, typer.Option(help="Why; it is kept with the run.")
    ] = "cancelled by hand",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel a run: stop its job at the vendor, and take the unused time back if it is refunded.

    [dim]$[/] gpu-renter cancel 66a1f2c9d53a3f9ef1f0c123
    """
    doing = "Cancelling: the job is stopped at its vendor"
    answer = _ask(url, run_id, doing, lambda server, whole: server.cancel(whole, reason))
    tell(answer, answer["message"], as_json)


def approve(
    run_id: RunArgument,
    approval_id: Annotated[
        str | None,
        typer.Argument(help="The approval's id; without it, the one that waits.", metavar="ID"),
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Say no instead.")] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve, or reject, the payment that a run waits for. The next tick goes on.

    A yes covers the rest of the job at that vendor, too, up to the amount that `status` shows.

    [dim]$[/] gpu-renter approve 66a1f2c9d53a3f9ef1f0c123
    [dim]$[/] gpu-renter approve 66a1f2c9d53a3f9ef1f0c123 --reject
    """

    async def ask(server: ServerClient, whole: str) -> dict[str, Any]:
        wanted = approval_id or _waiting(await server.status(whole))
        return await server.approve(whole, wanted, not reject)

    answer = _ask(url, run_id, ASKING, ask)
    tell(answer, answer["message"], as_json)


def _waiting(answer: dict[str, Any]) -> str:
    """The id of the payment that waits for approval. Raises NotFound."""
    from domain.errors import NotFound

    for approval in reversed(answer["approvals"]):
        if approval["state"] == "pending":
            return str(approval["_id"])
    raise NotFound("No payment of this run waits for approval", "See: gpu-renter status RUN")


def _ask(
    url: str | None, given: str, doing: str, ask: Callable[[ServerClient, str], Awaitable[T]]
) -> T:
    """What `ask` gets of the server about the run that `given` is or begins. A terminal shows what
    goes on meanwhile; with no words for that, `ask` shows it.
    """
    from server.terminal.client import ServerClient

    async def work() -> T:
        async with ServerClient(url) as server:
            return await ask(server, await server.whole_id(given) if given else "")

    with working(doing) if doing else nullcontext():
        return run(work())
