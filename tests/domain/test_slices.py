"""How much is prepaid: never beyond the exposure, and less where it may be in vain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import ZERO, Usd
from domain.slices import SliceRule, most_for, price_of

RULE = SliceRule(first_minutes=60, exposure=Usd.parse(2))
A_DOLLAR = Usd.parse(1)


def test_an_unknown_vendor_gets_the_first_slice() -> None:
    assert RULE.minutes(600, A_DOLLAR, earned=0, in_vain=0.1) == 60


def test_a_risky_vendor_gets_no_more_than_the_first_slice_whatever_it_has_earned() -> None:
    assert RULE.minutes(240, A_DOLLAR, earned=5, in_vain=0.2) == 60


def test_a_safe_vendor_gets_more_but_never_beyond_the_exposure() -> None:
    assert RULE.minutes(600, A_DOLLAR, earned=5, in_vain=0.001) == 120
    assert RULE.minutes(600, A_DOLLAR, earned=5) == 120


def test_the_riskier_the_shorter() -> None:
    cheap = Usd.parse("0.2")
    lengths = [RULE.minutes(480, cheap, earned=9, in_vain=risk) for risk in (0.0, 0.02, 0.1, 0.5)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[1] > lengths[2]


def test_a_vendor_that_asks_nothing_gets_all_that_its_record_allows() -> None:
    assert RULE.minutes(30, ZERO, earned=0) == 30
    assert RULE.minutes(600, ZERO, earned=2) == 240


def test_a_price_of_a_micro_dollar_is_a_price() -> None:
    assert RULE.minutes(600, Usd(1), earned=9, at_risk=RULE.exposure) == 0


def test_what_all_runs_may_still_pay_ahead_bounds_a_slice() -> None:
    assert RULE.minutes(600, A_DOLLAR, earned=5, room=Usd.parse("0.5")) == 30
    assert RULE.minutes(600, A_DOLLAR, earned=5, room=Usd.parse(9)) == 120
    assert RULE.minutes(600, A_DOLLAR, earned=5, at_risk=A_DOLLAR, room=Usd.parse("1.5")) == 60


@pytest.mark.parametrize(("earned", "times"), [(-1, 1), (0, 1), (1, 2), (10, 1024), (11, 1024)])
def test_each_job_that_a_vendor_completed_doubles_what_all_runs_may_pay_it_ahead(
    earned: int, times: int
) -> None:
    assert RULE.vendor_bound(earned) == Usd(RULE.exposure.micros * times)


def test_a_slice_doubles_ten_times_at_most() -> None:
    vast = SliceRule(first_minutes=1, exposure=Usd.parse(1_000))
    assert [vast.minutes(10_000, Usd(1), earned=n) for n in (9, 10, 11)] == [512, 1024, 1024]


def test_the_next_slice_is_due_when_a_quarter_of_the_last_is_left() -> None:
    assert not RULE.due(paid=100, used=84.9, last_slice=60)
    assert RULE.due(paid=100, used=85, last_slice=60)


def test_the_likelier_a_slice_is_lost_the_closer_it_is_to_the_least_waste() -> None:
    """$0.60 an hour, lost with chance 1/2: √(10,000 × 480 / 5,000) is 31 minutes."""
    rule = SliceRule(first_minutes=10, exposure=Usd.parse(100))
    assert rule.minutes(480, Usd.parse("0.6"), earned=9, in_vain=0.5) == 31


@given(
    st.integers(1, 43_200),
    st.integers(1, 10**9),
    st.integers(0, 40),
    st.integers(0, 3_000_000),
    st.floats(0, 1),
)
def test_money_at_risk_never_exceeds_the_exposure(
    wanted: int, per_hour: int, earned: int, at_risk: int, in_vain: float
) -> None:
    minutes = RULE.minutes(
        wanted, Usd(per_hour), earned=earned, at_risk=Usd(at_risk), in_vain=in_vain
    )
    assert 0 <= minutes <= wanted
    if minutes:
        assert at_risk + minutes * per_hour // 60 <= RULE.exposure.micros


@pytest.mark.parametrize(
    ("minutes", "paid", "for_minutes", "most"),
    [
        (120, "1.8", 60, "3.6"),  # whole cents a minute: no slice is rounded
        (120, "1.4", 60, "2.83"),  # three slices of 45 minutes or more, each up to a cent dearer
        (0, "1.4", 60, "0"),
        (1, "1.4", 60, "0.033334"),  # a slice of a minute is rounded as well
    ],
)
def test_the_rest_of_a_job_is_bounded_however_it_is_sliced(
    minutes: int, paid: str, for_minutes: int, most: str
) -> None:
    rate = Usd.parse(paid)
    bound = most_for(minutes, paid=rate, for_minutes=for_minutes)
    assert bound == Usd.parse(most)
    for slice_ in (45, 50, 60, 70, 120):
        full, left = divmod(minutes, slice_)
        parts = [slice_] * full + ([left] if left else [])
        prices = (price_of(part, paid=rate, for_minutes=for_minutes) for part in parts)
        assert sum(price.micros for price in prices) <= bound.micros
