"""When a run is due next: pure rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.due import Due, Pace, TickOutcome, due, until_renewal_s

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PACE = Pace(first_s=2, most_s=60, patience_s=5)


def delay_s(outcome: TickOutcome, quiet: int = 0, **more: object) -> float:
    at = due(outcome, NOON, quiet, PACE, **more).at  # type: ignore[arg-type]
    assert at is not None
    return (at - NOON).total_seconds()


def test_a_job_that_just_runs_is_looked_at_less_and_less_up_to_a_bound() -> None:
    delays, quiet = [], 0
    for _ in range(8):
        next_ = due(TickOutcome.WATCHING, NOON, quiet, PACE)
        assert next_.at is not None
        delays.append((next_.at - NOON).total_seconds())
        quiet = next_.quiet
    assert delays == [2, 4, 8, 16, 32, 60, 60, 60]


def test_a_job_that_writes_its_log_just_runs_too_and_is_looked_at_less_up_to_a_lower_bound() -> (
    None
):
    delays, quiet = [], 0
    for _ in range(6):
        next_ = due(TickOutcome.WATCHING, NOON, quiet, PACE, lively=True)
        assert next_.at is not None
        delays.append((next_.at - NOON).total_seconds())
        quiet = next_.quiet
    assert delays == [2, 4, 8, 15, 15, 15]
    assert delay_s(TickOutcome.WATCHING, quiet) == 60, "it has gone silent"


def test_news_starts_the_waiting_anew() -> None:
    assert delay_s(TickOutcome.WATCHING, 9, news=True) == 2
    assert due(TickOutcome.WATCHING, NOON, 9, PACE, news=True).quiet == 0


def test_after_an_action_the_next_step_is_taken_at_once_but_not_in_a_busy_loop() -> None:
    assert [delay_s(TickOutcome.ACTED, quiet) for quiet in range(7)] == [0, 0, 0, 2, 4, 8, 16]


def test_where_only_time_helps_nobody_is_asked_at_once_again() -> None:
    assert [delay_s(TickOutcome.WAITING, quiet) for quiet in range(5)] == [5, 10, 20, 40, 60]


def test_a_failed_tick_waits_longer_each_time_and_never_for_ever() -> None:
    assert [delay_s(TickOutcome.FAILED, quiet) for quiet in (0, 1, 2, 100)] == [2, 4, 8, 60]


def test_who_waits_for_a_person_is_due_when_the_question_expires() -> None:
    until = NOON + timedelta(hours=1)
    assert due(TickOutcome.ASKED, NOON, 4, PACE, until=until) == Due(until, 0)
    assert due(TickOutcome.ASKED, NOON, 4, PACE, until=NOON - timedelta(hours=1)).at == NOON


def test_a_run_that_is_over_is_never_due() -> None:
    assert due(TickOutcome.OVER, NOON, 3, PACE).at is None


def test_books_that_stay_open_are_looked_at_for_ever_but_rarely() -> None:
    assert delay_s(TickOutcome.CLOSING, 0, news=True) == 2
    assert delay_s(TickOutcome.CLOSING, 100) == 3600


def test_a_slice_that_ends_is_looked_at_in_time() -> None:
    assert delay_s(TickOutcome.WATCHING, 9, within_s=20) == 20
    assert delay_s(TickOutcome.WATCHING, 9, within_s=0.1) == PACE.first_s
    assert delay_s(TickOutcome.WATCHING, 0, within_s=500) == 2


@pytest.mark.parametrize(
    ("paid", "used", "seconds"),
    [(60, 0, 45 * 60), (60, 44, 60), (60, 50, 5 * 60), (60, 60, 0), (60, 61, 0), (120, 60, 2700)],
)
def test_the_next_slice_is_bought_when_a_quarter_is_left(
    paid: float, used: float, seconds: float
) -> None:
    assert until_renewal_s(paid, used, 60) == seconds
