"""What is expected of a vendor: the prior, what its jobs teach, and the blocks that end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.reliability import (
    HALF_LIFE_DAYS,
    LONGEST_BLOCK_DAYS,
    MINUTES_BLOCKED,
    TYPICAL_HOURS,
    Chances,
    Record,
    Trouble,
    block_at,
    block_for,
    chances,
    trust,
    weight,
)
from tests.support.builders import NOON

LATER = NOON + timedelta(days=HALF_LIFE_DAYS)


def seen(at: datetime = NOON, gpu_type: str = "A100", **sums: float) -> Record:
    """A record of jobs that all ended at `at`."""
    return Record(gpu_type, **{name: weight(at) * value for name, value in sums.items()})


def expect(
    *records: Record, registered: float = 0.9, hours: float = TYPICAL_HOURS, now: datetime = NOON
) -> Chances:
    return chances(registered, records, "A100", hours, now)


def test_without_jobs_the_registry_is_believed() -> None:
    assert expect().completes == pytest.approx(0.9, abs=0.01)
    assert chances(0.9, (), "A100", TYPICAL_HOURS, None).completes == expect().completes


@pytest.mark.parametrize("nonsense", [-1.0, 0.0, 1.0, 17.0])
def test_a_registry_that_is_too_sure_is_not_believed_wholly(nonsense: float) -> None:
    assert 0.0 < expect(registered=nonsense).completes < 1.0


def test_jobs_move_the_expectation_towards_what_was_seen() -> None:
    good = expect(seen(completed=20, done_minutes=20 * 240, taken_minutes=20 * 240))
    bad = expect(seen(never_booted=20))
    assert bad.completes < 0.5 < 0.9 < good.completes


def test_a_job_that_never_booted_says_nothing_about_dying_later() -> None:
    assert expect(seen(never_booted=5)).finishes == expect().finishes
    assert expect(seen(never_booted=5)).boots < expect().boots


def test_a_lost_job_did_boot() -> None:
    lost = expect(seen(lost=5, lost_minutes=600))
    assert lost.boots > expect().boots
    assert lost.finishes < expect().finishes


def test_a_long_job_is_likelier_to_die_than_a_short_one() -> None:
    assert expect(hours=8).finishes < expect(hours=1).finishes
    assert expect(hours=8).boots == expect(hours=1).boots


def test_an_outcome_counts_half_after_a_half_life() -> None:
    assert expect(seen(never_booted=8), now=LATER).jobs == pytest.approx(4)
    assert expect(seen(never_booted=8), now=LATER) == expect(
        seen(at=LATER, never_booted=4), now=LATER
    )


def test_a_vendor_that_nobody_used_for_long_is_as_good_as_its_registry_again() -> None:
    then = NOON + timedelta(days=20 * HALF_LIFE_DAYS)
    assert expect(seen(never_booted=9), now=then).completes == pytest.approx(
        expect().completes, abs=0.001
    )


def test_another_gpu_of_the_same_vendor_teaches_less() -> None:
    same, other = expect(seen(never_booted=5)), expect(seen(gpu_type="A10", never_booted=5))
    assert same.boots < other.boots < expect().boots


def test_a_slow_vendor_is_known_as_slow_and_a_fast_one_as_no_faster_than_it_says() -> None:
    assert expect(seen(completed=9, done_minutes=540, taken_minutes=1080)).pace > 1.5
    assert expect(seen(completed=9, done_minutes=540, taken_minutes=1)).pace == 1.0


sums = st.floats(0, 1e6)


@given(sums, sums, sums, st.floats(-5, 5), st.floats(0.1, 1000), st.integers(0, 4000))
def test_chances_are_chances_whatever_is_on_record(
    completed: float, unbooted: float, lost: float, registered: float, hours: float, days: int
) -> None:
    now = NOON + timedelta(days=days)
    record = seen(now, completed=completed, never_booted=unbooted, lost=lost)
    ahead = expect(record, registered=registered, hours=hours, now=now)
    assert 0.0 < ahead.boots <= 1.0
    assert 0.0 <= ahead.finishes <= 1.0
    assert 0.0 <= ahead.in_vain <= 1.0


def test_good_jobs_earn_longer_slices_and_bad_ones_cost_them() -> None:
    assert trust([seen(completed=3)], "A100", NOON) == 3
    assert trust([seen(completed=3, lost=2)], "A100", NOON) == 1
    assert trust([seen(completed=3)], "A10", NOON) == 0
    assert trust([], "A100", NOON) == 0


@pytest.mark.parametrize("trouble", list(Trouble))
def test_a_block_ends_by_itself(trouble: Trouble) -> None:
    block = block_for(trouble, None, NOON)
    end = NOON + timedelta(minutes=MINUTES_BLOCKED[trouble])
    assert block_at([block], NOON) == block
    assert block_at([block], end) is None
    assert trouble.words in str(block)


def test_a_repeated_trouble_blocks_for_twice_as_long_and_never_for_good() -> None:
    lengths, block = [], None
    for _ in range(12):
        block = block_for(Trouble.LOST_JOB, block, NOON)
        lengths.append(block.until - NOON)
    assert lengths[1] == 2 * lengths[0]
    assert lengths[2] == 4 * lengths[0]
    assert max(lengths) == timedelta(days=LONGEST_BLOCK_DAYS)


def test_a_trouble_of_long_ago_is_forgotten() -> None:
    old = block_for(Trouble.LOST_JOB, None, NOON)
    then = NOON + timedelta(days=10 * HALF_LIFE_DAYS)
    again = block_for(Trouble.LOST_JOB, old, then)
    assert again.until - then < timedelta(minutes=MINUTES_BLOCKED[Trouble.LOST_JOB] * 1.01)


def test_a_later_trouble_never_shortens_a_block() -> None:
    block = replace(block_for(Trouble.LOST_JOB, None, NOON), until=NOON + timedelta(days=6))
    assert block_for(Trouble.LOST_JOB, block, NOON).until == block.until


def test_of_several_blocks_the_one_that_lasts_longest_is_told() -> None:
    short, long = (block_for(t, None, NOON) for t in (Trouble.REFUSED, Trouble.OTHER_TERMS))
    assert block_at([long, short], NOON) == long
