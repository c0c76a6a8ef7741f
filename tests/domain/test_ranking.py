"""The deterministic planner."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.jobs import Preference
from domain.money import Usd
from domain.outlook import Attempt, outlook
from domain.quotes import Offer
from domain.ranking import Abort, Rent, Wait, choose, verdict
from domain.reliability import LANDMARK, Record, Trouble, block_for
from tests.support.builders import NOON
from tests.support.builders import an_offer as plain_offer

FIVE = Usd.parse(5)


def an_offer(
    vendor_id: str = "gpu_vendor_1",
    dollars: object = "1.4",
    *,
    as_of: Any = None,
    records: Any = (),
    blocks: Any = (),
    needed_minutes: int = 0,
    **changes: Any,
) -> Offer:
    """One whose vendor has this record, looked at at `as_of`."""
    offer = plain_offer(vendor_id, dollars, **changes)
    vendor = replace(offer.vendor, records=records, blocks=blocks)
    return replace(offer, vendor=vendor, as_of=as_of, needed_minutes=needed_minutes)


def rented(*offers: Offer, left: Usd = FIVE) -> str:
    decision = choose(offers, left=left, patience=True)
    assert isinstance(decision, Rent), decision
    return decision.quote.vendor_id


def test_the_cheapest_is_rented() -> None:
    assert rented(an_offer("dear", "1.8", reliability=1.0), an_offer("cheap", "1.4")) == "cheap"


def test_a_cheap_vendor_that_mostly_fails_is_dearer_to_finish_with() -> None:
    assert rented(an_offer("a", "1.40", reliability=0.4), an_offer("b", "1.90")) == "b"


def test_with_a_budget_for_one_attempt_the_more_reliable_vendor_is_rented() -> None:
    cheap, sure = an_offer("cheap", "1.4"), an_offer("sure", "1.8", reliability=0.97)
    assert rented(cheap, sure, left=FIVE) == "cheap"
    assert rented(cheap, sure, left=Usd.parse(2)) == "sure"


def test_a_blocked_vendor_is_rented_only_when_no_other_is_left() -> None:
    blocked, fresh = blocked_offer("blocked", "1"), an_offer("fresh", "3", as_of=NOON)
    assert rented(blocked, fresh) == "fresh"
    assert rented(blocked, fresh, left=Usd.parse(2)) == "blocked"
    assert rented(blocked) == "blocked"


def test_of_blocked_vendors_the_one_that_failed_in_this_run_is_rented_last() -> None:
    failed = replace(blocked_offer("failed", "1"), failures_in_run=1)
    other = blocked_offer("other", "3")
    decision = choose([failed, other], left=FIVE, patience=True)
    assert isinstance(decision, Rent)
    assert decision.quote.vendor_id == "other"
    assert "as the others are too" in decision.reason
    assert rented(failed, other, left=Usd.parse(2)) == "failed"


def test_a_block_that_is_over_is_no_block() -> None:
    over = replace(blocked_offer("a", "1"), as_of=NOON + timedelta(days=1))
    assert rented(over, an_offer("b", "3", as_of=NOON)) == "a"


def test_what_a_vendors_jobs_came_to_outweighs_the_registry() -> None:
    failing = Record("A100", completed=1, never_booted=30)
    known = an_offer("known", "1.4", as_of=LANDMARK, records=(failing,))
    assert rented(known, an_offer("unknown", "1.8")) == "unknown"


def test_a_vendor_that_is_too_slow_for_the_deadline_is_passed_over() -> None:
    slow, quick = an_offer("slow", "1", eta_minutes=300), an_offer("quick", "2")
    decision = choose([slow, quick], left=FIVE, patience=True, minutes_left=120)
    assert isinstance(decision, Rent)
    assert decision.quote.vendor_id == "quick"
    assert verdict(slow, decision, FIVE, 120) == "too late for the deadline"


def test_when_nothing_can_be_done_in_time_it_gives_up_and_says_so() -> None:
    decision = choose([an_offer()], left=FIVE, patience=True, minutes_left=30)
    assert isinstance(decision, Abort)
    assert "30 minutes" in decision.reason


def test_a_deadline_without_time_for_a_second_attempt_asks_for_a_surer_first() -> None:
    cheap, sure = an_offer("cheap", "1.4"), an_offer("sure", "1.8", reliability=0.97)
    for minutes, chosen in ((600, "cheap"), (80, "sure")):
        decision = choose([cheap, sure], left=FIVE, patience=True, minutes_left=minutes)
        assert isinstance(decision, Rent)
        assert decision.quote.vendor_id == chosen


@pytest.mark.parametrize(
    ("preference", "chosen"),
    [
        (Preference.CHEAPEST, "cheap"),
        (None, "cheap"),
        (Preference.RELIABLE, "sure"),
        (Preference.FASTEST, "quick"),
    ],
)
def test_what_the_person_wants_most_decides(preference: Preference | None, chosen: str) -> None:
    offers = [
        an_offer("cheap", "1.4", reliability=0.9, eta_minutes=120),
        an_offer("sure", "2.4", reliability=0.98, eta_minutes=120),
        an_offer("quick", "2.6", reliability=0.9),
    ]
    decision = choose(offers, left=Usd.parse(20), patience=True, preference=preference)
    assert isinstance(decision, Rent)
    assert decision.quote.vendor_id == chosen


def test_it_says_in_one_sentence_why_it_chose() -> None:
    decision = choose([an_offer("a"), an_offer("b", "3")], left=FIVE, patience=True)
    assert decision.reason == (
        "A at $1.40 is the cheapest offer; counting that a job may fail, about $1.59 on average, "
        "and 99% likely done within budget and time; $3.60 stays in the budget"
    )


def test_a_price_of_the_whole_job_is_called_so_beside_the_first_slices() -> None:
    sliced = an_offer("a", "2", minutes=60, needed_minutes=540)
    decision = choose([sliced], left=Usd.parse(20), patience=True)
    assert decision.reason.startswith("A at $18.00 for the whole job is the only offer; counting")
    assert "paid in slices, $2.00 for the first 60 minutes" in decision.reason


def test_the_order_to_go_on_in_is_the_cheapest_of_all_orders() -> None:
    attempts = [
        Attempt.at(an_offer(name, price, reliability=reliability))
        for name, price, reliability in (
            ("a", 1, 0.3),
            ("b", 2, 0.9),
            ("c", 3, 0.99),
            ("d", 2, 0.5),
        )
    ]
    by_cost = {
        order: outlook(order[0], order[1:], 1e9, None).cost for order in permutations(attempts)
    }
    cheapest = min(by_cost, key=lambda order: by_cost[order])
    assert list(cheapest) == sorted(attempts, key=lambda attempt: attempt.index)


def test_without_offers_it_waits_as_long_as_it_may() -> None:
    assert isinstance(choose([], left=FIVE, patience=True), Wait)
    assert isinstance(choose([], left=FIVE, patience=False), Abort)


def test_when_nothing_is_affordable_it_gives_up() -> None:
    decision = choose([an_offer(dollars=6)], left=FIVE, patience=True)
    assert isinstance(decision, Abort)
    assert "$6.00" in decision.reason


def test_equal_offers_are_told_apart_by_their_ids_so_that_a_repeat_decides_the_same() -> None:
    assert rented(an_offer("b"), an_offer("a")) == rented(an_offer("a"), an_offer("b")) == "a"


def blocked_offer(vendor_id: str, dollars: object) -> Offer:
    block = block_for(Trouble.LOST_JOB, None, NOON)
    return an_offer(vendor_id, dollars, as_of=NOON, blocks=(block,))


offers = st.lists(
    st.builds(
        an_offer,
        st.sampled_from(["v1", "v2", "v3", "v4"]),
        st.integers(1, 10),
        reliability=st.sampled_from([0.5, 0.9, 0.99]),
        failures=st.integers(0, 2),
    ),
    max_size=4,
    unique_by=lambda offer: offer.quote.vendor_id,
)


@given(offers, st.integers(0, 10).map(lambda dollars: Usd(dollars * 1_000_000)), st.booleans())
def test_what_is_rented_is_on_offer_and_within_the_budget(
    given_offers: list[Offer], left: Usd, patience: bool
) -> None:
    decision = choose(given_offers, left=left, patience=patience)
    if isinstance(decision, Rent):
        assert decision.quote in [offer.quote for offer in given_offers]
        assert decision.quote.price <= left
    else:
        assert all(offer.quote.price > left for offer in given_offers)
    assert decision.reason


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (an_offer("cheap", "1.4"), "taken"),
        (an_offer("dear", "4"), "dearer"),
        (an_offer("huge", "9"), "over the budget"),
        (an_offer("failed", "1", failures=2), "failed this run"),
        (an_offer("shaky", "1.4", reliability=0.5), "less reliable (65%)"),
    ],
)
def test_beside_each_offer_stands_what_became_of_it(offer: Offer, why: str) -> None:
    decision = Rent(an_offer("cheap", "1.4").quote, "")
    assert verdict(offer, decision, FIVE).startswith(why)


def test_a_job_that_hardly_any_vendor_can_finish_still_has_a_decision() -> None:
    endless = Record("A100", lost=1e9, lost_minutes=1.0)
    offer = an_offer("a", as_of=LANDMARK, records=(endless,), needed_minutes=43_200)
    assert isinstance(choose([offer], left=Usd.parse(10_000), patience=True), Rent)
