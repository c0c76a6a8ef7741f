"""A payment's identity and its moves."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import IllegalTransition
from domain.ids import payment_id, slot_nonce
from domain.payments import TRANSITIONS, PaymentState, check_transition

S = PaymentState
ALLOWED = {
    (S.RESERVED, S.AUTHORIZED),
    (S.RESERVED, S.RELEASED),
    (S.RESERVED, S.SETTLED),
    (S.AUTHORIZED, S.SETTLED),
    (S.AUTHORIZED, S.REFUSED),
    (S.AUTHORIZED, S.EXPIRED),
    (S.SETTLED, S.REFUNDED),
}


@pytest.mark.parametrize(("before", "after"), list(product(S, S)))
def test_only_the_moves_of_the_design_are_allowed(before: S, after: S) -> None:
    if (before, after) in ALLOWED:
        check_transition(before, after)
    else:
        with pytest.raises(IllegalTransition):
            check_transition(before, after)


def test_what_is_authorized_is_never_released() -> None:
    assert S.RELEASED not in TRANSITIONS[S.AUTHORIZED]


def test_the_apis_words_are_the_seeds() -> None:
    words = {state: state.status for state in S}
    assert {s for s, w in words.items() if w == "pending"} == {S.RESERVED, S.AUTHORIZED}
    assert {s for s, w in words.items() if w == "completed"} == {S.SETTLED, S.REFUNDED}
    assert {s for s in S if s.open} == {s for s, w in words.items() if w == "pending"}


def test_a_slots_nonce_is_the_same_on_every_machine() -> None:
    assert slot_nonce("run_1", 0) == (
        "0x96bfa4959fe56f1579a6bac9f9314f92b4fbe3accfa5431fceabdeaf6385c436"
    )
    assert payment_id("run_1", 0, "gpu_vendor_1") == "pay_7cdaf9d123f4b27705e03bde301bb584"


slots = st.tuples(st.text("abc|0123", min_size=1, max_size=6), st.integers(0, 30))


@given(slots, slots)
def test_two_slots_never_share_a_nonce(a: tuple[str, int], b: tuple[str, int]) -> None:
    assert (slot_nonce(*a) == slot_nonce(*b)) == (a == b)


@given(slots, st.sampled_from(["v1", "v2"]))
def test_a_slots_payments_to_two_vendors_have_their_own_ids(slot: tuple[str, int], v: str) -> None:
    other = "v2" if v == "v1" else "v1"
    assert payment_id(*slot, v) != payment_id(*slot, other)
    assert payment_id(*slot, v) == payment_id(*slot, v)
