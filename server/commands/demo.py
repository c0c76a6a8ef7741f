"""`gpu-renter demo`: the whole story on this machine, and the proof that it is so."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domain.errors import InvalidInput
from server.terminal.output import Exit, print_json, print_problem

if TYPE_CHECKING:
    from rich.console import Console

    from server.config.settings import Settings


def demo(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the final status, as the API answers it.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(help="Also draw the output into this SVG file.", metavar="FILE")
    ] = None,
    llm: Annotated[
        bool, typer.Option("--llm", help="Have the model plan that FIREWORKS_API_KEY is for.")
    ] = False,
) -> None:
    """Watch the agent rent a GPU, lose it, and deliver all the same, in a few seconds.

    Starts everything it needs on free ports and removes it afterwards: an embedded MongoDB, a
    local chain with USDC, two vendors of which one fails part-way. It reads no setting and no
    .env (but FIREWORKS_* with --llm), and spends nothing of value. Exit status 1 when anything
    that it claims is not so.

    [dim]$[/] gpu-renter demo
    [dim]$[/] gpu-renter demo --json | jq .run.status
    """
    if svg is not None and not svg.absolute().parent.is_dir():
        raise InvalidInput("--svg", f"there is no folder {svg.absolute().parent}")
    from rich.console import Console

    from server.demo.claims import claims
    from server.demo.last_page import last_page
    from server.demo.story import perform
    from server.demo.view import WIDTH, DemoView
    from server.terminal.process import run

    begun = time.monotonic()
    stage = Console(file=io.StringIO()) if as_json else _screen()
    record = Console(
        record=True,
        file=io.StringIO(),
        width=WIDTH,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    view = DemoView([stage, record] if svg else [stage])
    with view:
        outcome = run(perform(view, model_settings() if llm else None))
    made = claims(outcome)
    for renderable in last_page(outcome, made, time.monotonic() - begun):
        view.print(renderable)
    if as_json:
        print_json(outcome.status)
    if svg is not None:
        svg.write_text(_without_web_fonts(record.export_svg(title="gpu-renter demo")), "utf-8")
    broken = [claim.text for claim in made if not claim.holds]
    for text in broken:
        print_problem(f"It is not so that {text}. Please report it, with the output above")
    if broken:
        raise typer.Exit(Exit.FAILED)


def model_settings() -> Settings:
    """The settings of the model alone. Raises ConfigError where there is no key."""
    from server.config.settings import Settings, written

    given = {n: v for n, v in written().items() if n.startswith("FIREWORKS_") and v}
    return Settings.load({**given, "PLANNER_MODE": "llm"})


def _without_web_fonts(svg: str) -> str:
    """A picture that loads nothing from anywhere: the viewer's monospace font will do."""
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def _screen() -> Console:
    from rich.console import Console

    from server.demo.view import WIDTH

    console = Console(highlight=False)
    if console.width > WIDTH or not (sys.stdout.isatty() or os.environ.get("COLUMNS")):
        console.width = WIDTH
    return console
