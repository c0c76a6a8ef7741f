"""The deterministic planner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Usd
from domain.quotes import Offer
from domain.ranking import Abort, Rent, Wait, choose, verdict
from tests.support.builders import an_offer

FIVE = Usd.parse(5)


def rented(*offers: Offer, left: Usd = FIVE) -> str:
    decision = choose(offers, left=left, patience=True)
    assert isinstance(decision, Rent), decision
    return decision.quote.vendor_id


def test_the_cheapest_is_rented() -> None:
    assert rented(an_offer("dear", "1.8", reliability=1.0), an_offer("cheap", "1.4")) == "cheap"


def test_of_two_near_prices_the_more_reliable_vendor_is_rented() -> None:
    assert rented(an_offer("a", "1.40", reliability=0.8), an_offer("b", "1.47")) == "b"


def test_a_little_beyond_near_the_cheaper_one_is_rented() -> None:
    assert rented(an_offer("a", "1.40", reliability=0.8), an_offer("b", "1.48")) == "a"


def test_a_vendor_that_failed_this_run_is_rented_only_when_no_other_is_left() -> None:
    failed = an_offer("failed", "1", failures=1)
    assert rented(failed, an_offer("fresh", "3")) == "fresh"
    assert rented(failed, an_offer("fresh", "3"), left=Usd.parse(2)) == "failed"


def test_without_offers_it_waits_as_long_as_it_may() -> None:
    assert isinstance(choose([], left=FIVE, patience=True), Wait)
    assert isinstance(choose([], left=FIVE, patience=False), Abort)


def test_when_nothing_is_affordable_it_gives_up() -> None:
    decision = choose([an_offer(dollars=6)], left=FIVE, patience=True)
    assert isinstance(decision, Abort)
    assert "$6.00" in decision.reason


def test_equal_offers_are_told_apart_by_their_ids_so_that_a_repeat_decides_the_same() -> None:
    assert rented(an_offer("b"), an_offer("a")) == rented(an_offer("a"), an_offer("b")) == "a"


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
    ],
)
def test_beside_each_offer_stands_what_became_of_it(offer: Offer, why: str) -> None:
    decision = Rent(an_offer("cheap", "1.4").quote, "")
    assert verdict(offer, decision, FIVE).startswith(why)
