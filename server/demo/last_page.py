"""The demo's last page: the ledger beside the chain, and every claim with its mark."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from domain.money import ZERO
from server.demo.claims import Claim, chain_total, ledger_total
from server.terminal.bars import budget_bar

if TYPE_CHECKING:
    from server.demo.story import StoryOutcome


def last_page(outcome: StoryOutcome, made: Sequence[Claim], seconds: float) -> list[RenderableType]:
    """seconds: of the whole demo, with starting and stopping."""
    good = all(claim.holds for claim in made)
    style = "green" if good else "red"
    marks = [_mark(claim) for claim in made]
    return [
        Text(),
        Panel(
            _totals(outcome),
            title=Text(" What it cost ", style="bold"),
            title_align="left",
            border_style=style,
            box=box.ROUNDED,
            padding=(1, 2),
            expand=False,
        ),
        Text(),
        *marks,
        Text(),
        _verdict(outcome, made, seconds),
        Text(),
    ]


def _totals(outcome: StoryOutcome) -> Table:
    run, payments, transfers = outcome.run, outcome.payments, outcome.transfers
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    bar = budget_bar(run.budget_total, run.spent, ZERO)
    table.add_row("Budget", str(run.budget_total), bar)
    table.add_row("Spent", Text(str(run.spent), style="bold green"), f"on {len(outcome.jobs)} jobs")
    table.add_row("Left", Text(str(run.budget_remaining), style="bold"), "unspent")
    table.add_row()
    settled = f"{len(payments)} payments in MongoDB"
    table.add_row("Ledger total", Text(str(ledger_total(outcome)), style="bold"), settled)
    moved = f"{len(transfers)} USDC transfers in the chain's own logs"
    table.add_row("Chain total", Text(str(chain_total(outcome)), style="bold"), moved)
    wallet = f"was {outcome.balance_before}"
    table.add_row("Wallet now", str(outcome.balance_after), wallet)
    if outcome.artifact:
        table.add_row()
        table.add_row("Artifact", "", str(outcome.artifact))
    return table


def _mark(claim: Claim) -> RenderableType:
    mark = ("✓ ", "bold green") if claim.holds else ("✗ ", "bold red")
    return Text.assemble(" ", mark, claim.text)


def _verdict(outcome: StoryOutcome, made: Sequence[Claim], seconds: float) -> RenderableType:
    wrong = sum(not claim.holds for claim in made)
    took = f"{seconds:.1f} s in all, {outcome.seconds:.1f} s from the goal to the artifact"
    if wrong:
        return Text(f" {wrong} of {len(made)} claims do not hold · {took}", style="bold red")
    return Text.assemble(
        (f" All {len(made)} claims hold", "bold green"),
        (f" · {took}\n", ""),
        (f" Next: {_program()} serve --worker, and open the address it prints", "dim"),
    )


def _program() -> str:
    """The program as a shell here finds it."""
    if shutil.which("gpu-renter"):
        return "gpu-renter"
    beside = Path(sys.executable).with_name("gpu-renter")
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)
