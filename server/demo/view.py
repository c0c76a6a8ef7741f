"""How the demo looks: the story line by line, and on a terminal a live footer under it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.text import Text

from domain.jobs import epoch
from domain.journal import Entry, NoteType
from domain.money import ZERO, Usd
from domain.names import Names, named, names_of
from server.demo.story import BUDGET, FAILING, GOAL
from server.terminal.bars import budget_line, progress_bar

if TYPE_CHECKING:
    from domain.quotes import Vendor
    from ledger.jobs import Job
    from ledger.run import Run
    from server.local.stack import LocalStack

WIDTH: Final = 100
"""Columns at most; a wider screen only makes it harder to read."""
BEAT_S: Final = 0.22
"""Seconds between two lines on a terminal, for the eye to follow."""
SERVICES: Final = {
    "mongodb": ("MongoDB", "the ledger and the checkpoints, embedded"),
    "chain": ("chain", "an EVM chain of its own, with a USDC contract"),
    "vendor": ("vendors", "two GPU vendors that want to be paid over x402"),
}
INDENT: Final = 13


class DemoView:
    """Prints to every console; the footer lives on the first, when that is a terminal."""

    def __init__(self, consoles: Sequence[Console]) -> None:
        self._consoles = consoles
        self._live: Live | None = None
        self._footer = _Footer()
        self._names = Names()
        self._paid = 0
        self._spent = ZERO

    def __enter__(self) -> DemoView:
        screen = self._consoles[0]
        if screen.is_terminal and not screen.is_dumb_terminal:
            self._live = Live(self._footer, console=screen, refresh_per_second=12, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def print(self, *renderables: RenderableType) -> None:
        for console in self._consoles:
            console.print(*renderables, sep="")

    # ---- the story ----

    def starting(self, stack: LocalStack) -> None:
        self.print()
        self.print(
            Text.assemble(
                (" agentic-gpu-renter ", "bold reverse"),
                "  an agent rents a GPU, loses it, and still delivers",
            )
        )
        self._heading("Start", "everything on this machine; no account, no key, no real money")
        self._footer.stack = stack

    def started(self, stack: LocalStack, payer: str, funds: Usd, vendors: list[Vendor]) -> None:
        self._footer.stack = None
        self._names = names_of(vendors)
        for service in stack.services:
            name, what = SERVICES[service.name]
            host = service.url.split("://")[1].split("/")[0]
            self._fact(name, Text.assemble(f"{what}  ", (host, "dim")))
        self._fact("wallet", Text.assemble(f"{funds} USDC at ", (payer, "dim")))
        for vendor in vendors:
            rigged = vendor.vendor_id == FAILING
            self._fact(
                "vendor",
                Text.assemble(
                    (f"{vendor.name:<12}", "bold"),
                    f"{vendor.price_per_hour} an hour, {vendor.reliability:.0%} reliable",
                    (" · rigged: takes the money, dies part-way", "red") if rigged else "",
                ),
            )
        self._heading("Goal", GOAL, style="bold")

    def working(self, run: Run, job: Job | None) -> None:
        self._footer.show(run, job, self._names)

    async def reads(self, entry: Entry) -> None:
        """Tell one entry of the journal, and give the eye its time."""
        if self._tell(entry) and self._live:
            await asyncio.sleep(BEAT_S)

    def _tell(self, entry: Entry) -> bool:
        kind, text, data = entry.note.type, entry.note.content, entry.note.data
        vendor = self._names[str(data.get("vendorId", ""))]
        match kind:
            case NoteType.JOB_SPEC:
                self._fact("plan", str(data["understood"]))
            case NoteType.QUOTE:
                price = Usd(int(data["priceMicros"]))
                offer = f"{price} for {data['minutes']} minutes of {data['gpuType']}"
                self._fact("quote", Text.assemble((f"{vendor:<12}", "bold"), offer))
            case NoteType.AGENT_REASONING if data.get("decision") == "rent":
                self._fact("decision", Text(str(data["reason"]), style="bold"))
            case NoteType.AGENT_REASONING:
                return False
            case NoteType.PAYMENT_AUTHORIZED:
                self._paid += 1
                amount = Usd(int(data["amountMicros"]))
                self._heading(f"Payment {self._paid}", f"{amount} to {vendor} over x402")
                self._fact("signed", f"{amount} USDC to {data['payTo']}")
            case NoteType.PAYMENT_SETTLED:
                self._fact("settled", Text(str(data["x402TxId"]), style="green"))
                self._spent += Usd(int(data["amountMicros"]))
                self._fact("budget", budget_line(BUDGET, self._spent, ZERO))
            case NoteType.JOB_STARTED:
                self._heading("Training", f"job {data['vendorJobId']} on {vendor}")
            case NoteType.JOB_LOG:
                return self._tell_log(text)
            case NoteType.RECOVERY:
                why, _, then = text.partition("\n")
                self._heading("Recovery", named(why, self._names), style="yellow")
                self._fact("then", then[:1].lower() + then[1:])
            case NoteType.ARTIFACT:
                self._fact("artifact", Text(text, style="green"))
                self._fact("sha256", Text(str(data["sha256"]), style="green"))
            case NoteType.RUN_COMPLETED | NoteType.RUN_FAILED:
                return False
            case _:
                self._fact(kind.replace("_", " ")[: INDENT - 3], text)
        return True

    def _tell_log(self, line: str) -> bool:
        if found := epoch(line):
            number, of, loss = found
            share = Text.assemble(progress_bar(number / of), f"  {number / of:>4.0%}")
            self._fact(f"epoch {number}/{of}", share.append(f"   loss {loss}"))
        elif line.startswith("ERROR"):
            self._fact("✗ failed", Text(line.removeprefix("ERROR "), style="bold red"), "bold red")
        else:
            return False
        return True

    # ---- lines ----

    def _heading(self, title: str, text: str, style: str = "") -> None:
        self.print()
        self.print(Text.assemble((f" {title:<{INDENT - 2}} ", "bold cyan"), (text, style)))

    def _fact(self, label: str, text: str | Text, style: str = "dim") -> None:
        body = Text(text) if isinstance(text, str) else text
        for console in self._consoles:
            room = min(console.width, WIDTH) - INDENT
            lines = body.wrap(console, max(20, room))
            for number, line in enumerate(lines):
                head = label if number == 0 else ""
                console.print(Text.assemble((f"   {head:<{INDENT - 3}}", style), line))


class _Footer:
    """What is going on now: a spinner, the clock, the budget and the job."""

    def __init__(self) -> None:
        self.stack: LocalStack | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._begun = time.monotonic()
        self._doing = ""
        self._run: Run | None = None
        self._job: Job | None = None

    def show(self, run: Run, job: Job | None, names: Names) -> None:
        self._run, self._job = run, job if job and not job.status.ended else None
        where = names[job.vendor_id] if job else ""
        self._doing = {
            "intake": "understanding the goal",
            "monitor": f"asking {where} how the job goes",
            "assess_budget": "asking the market for quotes, deciding, paying",
            "launch": "sending the payment",
            "ended": "comparing the ledger with the chain",
        }.get(run.phase, run.phase.replace("_", " "))

    def __rich__(self) -> RenderableType:
        if self.stack is not None:
            up = [SERVICES[service.name][0] for service in self.stack.services]
            waits = [name for name, _ in SERVICES.values() if name not in up]
            self._doing = "starting " + ", ".join([*waits, "the agent"])
        seconds = time.monotonic() - self._begun
        self._spinner.update(text=Text.assemble(f"{self._doing} … ", (f"{seconds:.0f} s", "dim")))
        parts: list[RenderableType] = ["", self._spinner]
        if self._run is not None:
            run = self._run
            reserved = sum((held.amount for held in run.reservations), ZERO)
            parts.append(Text.assemble("budget  ", budget_line(BUDGET, run.spent, reserved)))
        if self._job is not None:
            share = self._job.progress
            parts.append(Text.assemble("job     ", progress_bar(share), f"  {share:.0%}"))
        return Padding(Group(*parts), (0, 0, 0, 1))
