"""`gpu-renter prune`: remove runs that ended long ago, and keep what explains their money."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from domain.errors import InvalidInput
from server.terminal.output import JsonOption, print_json, working
from server.terminal.process import run

if TYPE_CHECKING:
    from server.reports.retention import Pruned

_UNITS: Final = {"d": 1, "w": 7, "y": 365}
_AGE: Final = re.compile(r"([1-9]\d{0,4}) ?([dwy])", re.IGNORECASE)


def prune(
    older_than: Annotated[
        str, typer.Option(help="How long ago a run ended: 90d, 12w or 1y.", metavar="AGE")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove runs that are over, with their journal, jobs, payments, chat, state and files.

    What they paid and got back, and the last hash of each journal, stay: `reconcile` still agrees
    with the chain, and `audit` says when a run was removed. A run that is owed anything, or holds
    money, stays. It cannot be undone. RETENTION_DAYS lets a server do it by itself.

    [dim]$[/] gpu-renter prune --older-than 90d --dry-run
    [dim]$[/] gpu-renter prune --older-than 1y --yes
    """
    age = _age(older_than)
    if not (dry_run or yes):
        _ask(older_than)
    with working("Looking through the runs that have ended"):
        outcome = run(_prune(age, dry_run))
    if as_json:
        print_json({"dryRun": dry_run, "removed": outcome.removed, "kept": outcome.kept})
        return
    word = "would be removed" if dry_run else "removed"
    typer.echo(f"{len(outcome.removed)} runs {word}; {len(outcome.kept)} stay")
    for run_id, why in outcome.kept.items():
        typer.echo(f"  {run_id} stays: {why}")


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            "--older-than", f"{text[:40]!r} is no age", "Give days, weeks or years: 90d, 12w, 1y"
        )
    return timedelta(days=int(found[1]) * _UNITS[found[2].lower()])


def _ask(older_than: str) -> None:
    if not sys.stdin.isatty():
        raise InvalidInput("--yes", "nobody can be asked here", "Give --yes, or --dry-run first")
    typer.confirm(f"Remove every run that ended more than {older_than} ago, for good?", abort=True)


async def _prune(age: timedelta, dry_run: bool) -> Pruned:
    from server.reports.retention import Retention
    from server.terminal.money import money_settings, open_money
    from server.wiring import now

    async with open_money(money_settings()) as opened:
        artifacts = opened.settings.data_dir / "artifacts"
        retention = Retention(opened.ledger, artifacts, now)
        return await retention.prune(now() - age, dry_run=dry_run)
