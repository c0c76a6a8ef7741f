"""The context of one tick: what a node finds at hand, and where it leaves what it noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from domain.journal import Note, NoteType
from graph.deps import Deps
from ledger.jobs import Job, last_poll
from ledger.ledger import Ledger
from ledger.observations import Head
from ledger.run import LastPoll, Lease, Run


@dataclass(slots=True)
class TickContext:
    """A tick's run, the lease on it, and the notes that it will write."""

    deps: Deps
    run: Run
    lease: Lease
    job_as_read: Job | None = None
    """The run's job, if it was read with the run; only the tick's first step may use it."""
    assessed: bool = False
    """Whether this tick found, under its lease, that no job or launch of the run is under way."""
    head: Head = field(init=False)
    noted: set[NoteType] = field(default_factory=set)
    """The types of this tick's notes."""
    turned: bool = False
    """Whether a job just ceased to run well: waits between ticks start short again."""
    look_within_s: float | None = None
    """Seconds within which the next tick should come, if anything asks for it."""
    _notes: list[Note] = field(default_factory=list)
    _last_poll: LastPoll | None = None

    def __post_init__(self) -> None:
        self.head = Head(self.run.journal_seq, self.run.journal_hash)

    @property
    def ledger(self) -> Ledger:
        return self.deps.ledger

    def observe(self, note: Note) -> None:
        """Collect a note; it is written when the node ends."""
        self.noted.add(note.type)
        self._notes.append(note)

    def note(self, type_: NoteType, content: str, key: str | None = None, **data: Any) -> None:
        self.observe(Note(type_, content, data, key))

    async def flush(self) -> None:
        """Write the collected notes into the journal."""
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
        """Keep what a poll found of the run's job; the tick's end writes it."""
        self._last_poll = last_poll(job)

    def last_fields(self) -> dict[str, Any]:
        """Fields for the tick's last write of the run: what it saw of the job, and the journal's
        last entry, which saves the next tick a search.
        """
        seen = {"sighting": self._last_poll.document()} if self._last_poll else {}
        return {"journal": {"seq": self.head.seq, "hash": self.head.hash}, **seen}
