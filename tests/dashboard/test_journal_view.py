"""What the pages make of a run and its journal, without a browser."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from domain.jobs import RunStatus
from domain.journal import Note, NoteType, entry
from graph.routing import Phase
from ledger.run import Run
from server.dashboard.journal_view import visits
from server.dashboard.widgets import pill_of
from tests.support.builders import NOON


@pytest.mark.parametrize(
    ("status", "waits", "shown"),
    [
        (RunStatus.RUNNING, True, "waits for you"),
        (RunStatus.RUNNING, False, "running"),
        (RunStatus.COMPLETED, True, "completed"),
    ],
)
def test_a_run_waits_for_a_person_only_where_something_of_it_waits(
    status: RunStatus, waits: bool, shown: str
) -> None:
    """A job that is extended under a yes goes by `approve`, and asks nothing there."""
    run = Mock(spec=Run, status=status, phase=Phase.APPROVE.value)

    assert pill_of(run, waits)[0] == shown


def test_a_goal_that_is_not_all_used_is_read_once() -> None:
    notes = [Note(NoteType.JOB_SPEC, "Understood"), Note(NoteType.NOT_USED, "Not used: spot.")]
    entries = [entry("r", seq, "", note, NOON) for seq, note in enumerate(notes, 1)]

    assert visits(entries) == {Phase.INTAKE: 1}
