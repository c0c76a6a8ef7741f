"""What the nodes work with: services, injected, and the desk of one tick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from domain.due import Pace
from domain.journal import Note
from domain.money import Usd
from domain.policy import NO_SUCH_LIMIT, OpenRuns
from domain.slices import SliceRule
from domain.tokens import TokenLimits
from graph.goals.reader import GoalReader, RuleReader
from graph.planner.planners import Planner
from ledger.jobs import Job, sighting
from ledger.ledger import Ledger
from ledger.observations import Head
from ledger.run import Lease, Run, Sighting, sighting_document
from tools.payments.cashier import Cashier
from tools.payments.chain import Chain
from tools.payments.reconcile import Reconciler
from tools.payments.refunds import Refunds
from tools.payments.wallets import Wallet
from tools.vendors.base import VendorClient
from tools.wire.observer import Observer

CALLBACK_PATH: Final = "/api/vendor-callback"
DEFAULT_SLICES: Final = SliceRule(first_minutes=60, exposure=Usd(2_000_000))


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the agent is. Times as their names say."""

    lease_seconds: float = 60.0
    quote_deadline_s: float = 3.0
    quote_fresh_minutes: float = 60.0
    """For how long a quote is believed that does not end before."""
    max_attempts: int = 5
    """Purchases that came to nothing before a run is given up."""
    poll_failure_limit: int = 3
    """Polls in a row without an answer before a job counts as lost."""
    silent_minutes: float = 5.0
    """For how long, too, a vendor that was paid is silent before its job counts as lost."""
    stall_minutes: float = 30.0
    """Without progress for so long, a job counts as hung."""
    slices: SliceRule = DEFAULT_SLICES
    """How much time to prepay at a vendor."""
    approval_minutes: float = 60.0
    """How long a payment waits for a person's approval."""
    silent_sends: int = 2
    """Sends of one payment without an answer before another vendor gets the slot."""
    vendors_clock: bool = True
    """Whether a vendor's own clock is believed: only where jobs run in fast motion, as they do
    at the local mock vendors.
    """
    open_runs: OpenRuns = NO_SUCH_LIMIT
    """How many runs may be open at once."""
    pace: Pace = field(default_factory=Pace)
    """How long to wait between ticks."""


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything outside that the nodes reach. A test replaces any of them."""

    ledger: Ledger
    vendors: VendorClient
    cashier: Cashier
    refunds: Refunds
    reconciler: Reconciler
    chain: Chain
    wallet: Wallet
    planner: Planner
    now: Callable[[], datetime]
    limits: Limits
    artifacts: Path
    """The folder for downloaded artifacts, one subfolder a run."""
    callback_url: str | None = None
    """Where a vendor may say that a job has moved."""
    tokens: TokenLimits = field(default_factory=TokenLimits)
    """How much of a model a run and a user may take."""
    reader: GoalReader = field(default_factory=RuleReader)
    """Reads goals and questions."""
    observer: Observer = field(default_factory=Observer)
    """Told of every tick, node, payment and call; whoever wants to know listens to it."""


def callback_url(public_url: str | None) -> str | None:
    """Where vendors call back, under the address at which they reach the API."""
    return f"{public_url.rstrip('/')}{CALLBACK_PATH}" if public_url else None


@dataclass(slots=True)
class Desk:
    """One tick's working place: the run and the lease on it, and notes to be written."""

    deps: Deps
    run: Run
    lease: Lease
    job_as_read: Job | None = None
    """The run's job, where it was read with the run; the first step alone may go by it."""
    head: Head = field(init=False)
    noted: set[str] = field(default_factory=set)
    """The types of the notes of this tick: what happened in it."""
    turned: bool = False
    """Whether a job that just ran does so no more: the pause between ticks begins anew."""
    look_within_s: float | None = None
    """The next tick is wanted by then."""
    _notes: list[Note] = field(default_factory=list)
    _sighting: Sighting | None = None

    def __post_init__(self) -> None:
        self.head = Head(self.run.journal_seq, self.run.journal_hash)

    @property
    def ledger(self) -> Ledger:
        return self.deps.ledger

    def observe(self, note: Note) -> None:
        """Put a note aside; the node's end writes it."""
        self.noted.add(note.type)
        self._notes.append(note)

    def note(self, type_: str, content: str, key: str | None = None, **data: Any) -> None:
        self.observe(Note(type_, content, data, key))

    async def flush(self) -> None:
        """Write the notes into the journal."""
        if self._notes:
            notes, self._notes = self._notes, []
            self.head = await self.ledger.observations.append(
                self.run.id, self.head, notes, self.deps.now()
            )

    @property
    def tick(self) -> int:
        """The tick's number: the fence of its lease."""
        return self.lease.fence

    def check_lease(self) -> None:
        """Raise LeaseLost when the lease has run out: another tick may be at work by now."""
        self.lease.check(self.deps.now())

    async def reread(self) -> Run:
        self.run = await self.ledger.runs.get(self.run.id)
        self.job_as_read = None
        return self.run

    async def current_job(self) -> Job | None:
        """The job at work, or the last one."""
        return self.job_as_read or await self.ledger.jobs.current(self.run)

    def saw(self, job: Job) -> None:
        """Put aside what a poll has found of the run's job; the tick's end writes it."""
        self._sighting = sighting(job)

    def last_fields(self) -> dict[str, Any]:
        """What the tick leaves in the run's document: what it saw of the job, and the journal's
        head, a hint that saves the next tick a search.
        """
        seen = {"sighting": sighting_document(self._sighting)} if self._sighting else {}
        return {"journal": {"seq": self.head.seq, "hash": self.head.hash}, **seen}
