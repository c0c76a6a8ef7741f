"""`gpu-renter audit`: a run's journal in order, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from domain.errors import InvalidInput
from domain.journal import NoteType
from domain.money import Usd
from server.commands.runs import RunArgument, UrlOption
from server.terminal.output import Exit, JsonOption, print_json, print_problem, working
from server.terminal.process import run

if TYPE_CHECKING:
    from rich.text import Text

    from server.terminal.client import ServerClient

REFUNDS: Final = (NoteType.REFUND_CLAIMED, NoteType.PAYMENT_REFUNDED)


def audit(
    run_id: RunArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only say whether it is whole; print no entries.")
    ] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
    output: Annotated[
        Path | None, typer.Option(help="Write the JSON into this file instead.", metavar="FILE")
    ] = None,
) -> None:
    """Show what a run did, why, and what it paid; and verify that nothing of it was changed.

    Each entry is bound to the one before by a hash, and the run itself names the last one.
    Exit status 1 when an entry was changed, removed, moved or put in: its number is named.

    [dim]$[/] gpu-renter audit 66a1f2c9d53a3f9ef1f0c123
    [dim]$[/] gpu-renter audit 66a1f2c9d53a3f9ef1f0c123 --output audit.json
    """
    with working("Reading the journal"):
        audited = run(_audit(run_id, url))
    document = {k: v for k, v in audited.items() if not (verify and k == "entries")}
    if output is not None:
        _write(output, json.dumps(document, indent=2, ensure_ascii=False))
    if as_json:
        print_json(document)
    elif audited["prunedAt"] is not None:
        _tell_removed(audited)
    else:
        if output is None and not verify:
            _print(audited)
        if audited["whole"]:
            head = audited["head"]
            last = head["hash"] or "none"
            typer.echo(f"The journal is whole: {head['seq']} entries, the last is {last}")
    if not audited["whole"]:
        broken = f"The journal is broken at entry {audited['brokenSeq']}"
        print_problem(f"{broken}: {audited['problem']}")
        raise typer.Exit(Exit.FAILED)


async def _audit(given: str, url: str | None) -> dict[str, Any]:
    """By a server, which has the ledger open already; else out of the store that is opened here."""
    from server.terminal.client import through_server

    async def ask(server: ServerClient) -> dict[str, Any]:
        return await server.ask("/api/audit", runId=await server.whole_id(given))

    told = await through_server(url, ask)
    return await _audit_here(given) if told is None else told


async def _audit_here(given: str) -> dict[str, Any]:
    from domain.ids import MOST_MATCHES, is_short, the_one
    from server.reports.audits import audit_of, find_run
    from server.terminal.money import money_settings, open_money

    async with open_money(money_settings()) as opened:
        run_id = given
        if is_short(given):
            found = await opened.ledger.spenders.starting_with(given, limit=MOST_MATCHES)
            run_id = the_one(given, [one.id for one in found])
        audited = await audit_of(opened.ledger, await find_run(opened.ledger, run_id))
    return audited.model_dump(mode="json", by_alias=True)


def _tell_removed(audited: Mapping[str, Any]) -> None:
    spent, total = Usd(audited["spentMicros"]), Usd(audited["budgetTotalMicros"])
    typer.echo(
        f"Run {audited['runId']} of {audited['userId']} is {audited['status']}; it spent "
        f"{spent} of {total}"
    )
    on, head = datetime.fromisoformat(audited["prunedAt"]), audited["head"]
    typer.echo(
        f"It was removed on {on:%Y-%m-%d}. Its journal was whole and had {head['seq']} entries, "
        f"the last was {head['hash']}"
    )


def _print(audited: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from tools.wire.untrusted import clean_text

    console = Console(highlight=False)
    headline = f"Run {audited['runId']} of {audited['userId']}: {audited['goal']}"
    console.print(Text(clean_text(headline, 500)))
    spent, total = Usd(audited["spentMicros"]), Usd(audited["budgetTotalMicros"])
    console.print(f"{audited['status']}; spent {spent} of {total}")
    for e in audited["entries"]:
        at = datetime.fromisoformat(e["at"])
        head = Text(f"{e['seq']:>4}  {at:%m-%d %H:%M:%S}  ", style="dim")
        head.append(clean_text(e["type"], 60), style="bold").append(_amount(e), style="green")
        console.print(head, Padding(_why(e), (0, 0, 0, 6)))


def _why(e: Mapping[str, Any]) -> Text:
    """What the entry says, and under a decision how it came about."""
    from rich.text import Text

    from server.chat.decisions import how_decided
    from tools.wire.untrusted import clean_text

    said = [clean_text(line, 2_000) for line in e["what"].splitlines()]
    text = Text("\n".join(said))
    for line in how_decided(e["type"], e["data"]):
        text.append(f"\n{clean_text(line, 500)}", style="dim")
    return text


def _amount(e: Mapping[str, Any]) -> str:
    """What the entry is about in money: of a refund, what came back beside what was paid."""
    paid, back = (e["data"].get(name) for name in ("amountMicros", "refundedMicros"))
    if type(paid) is not int:
        return ""
    if type(back) is int and back:
        return f"  {Usd(paid)}, {Usd(back)} back"
    # What a vendor claims, and what came back by an older version's journal, is in words only.
    return "" if e["type"] in REFUNDS else f"  {Usd(paid)}"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput("--output", f"{path} cannot be written ({error.strerror})") from None
