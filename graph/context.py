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
    """The run's job, where it was read with the run; the first step alone may go by it."""
    assessed: bool = False
    """Whether this tick has seen, under its lease, that nothing of the run is under way."""
    head: Head = field(init=False)
    noted: set[NoteType] = field(default_factory=set)
    """The types of the notes of this tick: what happened in it."""
    turned: bool = False
    """Whether a job that just ran does so no more: the pause between ticks begins anew."""
    look_within_s: float | None = None
    """The next tick is wanted by then."""
    _notes: list[Note] = field(default_factory=list)
    _last_poll: LastPoll | None = None

    def __post_init__(self) -> None:
        self.head = Head(self.run.journal_seq, self.run.journal_hash)

    @property
    def ledger(self) -> Ledger:
        return self.deps.ledger

    def observe(self, note: Note) -> None:
        """Put a note aside; the node's end writes it."""
        self.noted.add(note.type)
        self._notes.append(note)

    def note(self, type_: NoteType, content: str, key: str | None = None, **data: Any) -> None:
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
        self._last_poll = last_poll(job)

    def last_fields(self) -> dict[str, Any]:
        """What the tick leaves in the run's document: what it saw of the job, and the journal's
        head, a hint that saves the next tick a search.
        """
        seen = {"sighting": self._last_poll.document()} if self._last_poll else {}
        return {"journal": {"seq": self.head.seq, "hash": self.head.hash}, **seen}
