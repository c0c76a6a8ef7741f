"""The spending policy: each rule refuses on its own, and says its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.errors import PolicyRefused
from domain.money import Usd
from domain.networks import BASE, BASE_SEPOLIA, LOCAL
from domain.policy import LONGEST_VALIDITY_S, SHORTEST_VALIDITY_S, SpendingPolicy
from tests.support.builders import PAYEE, terms

POLICY = SpendingPolicy(LOCAL, Usd.parse(2))
QUOTED = Usd.parse("1.4")


def refusal(quoted: Usd = QUOTED, pay_to: str | None = PAYEE, **changes: Any) -> str:
    with pytest.raises(PolicyRefused) as refused:
        POLICY.check_terms(terms(**changes), quoted=quoted, pay_to=pay_to)
    return refused.value.rule


def test_honest_terms_pass() -> None:
    POLICY.check_terms(terms(), quoted=QUOTED, pay_to=PAYEE)


def test_addresses_are_the_same_in_any_case() -> None:
    lower = terms(pay_to=PAYEE.lower(), asset=LOCAL.usdc.lower())
    POLICY.check_terms(lower, quoted=QUOTED, pay_to=PAYEE)


def test_less_than_the_quote_passes() -> None:
    POLICY.check_terms(terms(amount=Usd(1)), quoted=QUOTED, pay_to=PAYEE)


@pytest.mark.parametrize("scheme", ["upto", "EXACT", ""])
def test_only_the_exact_scheme_is_signed(scheme: str) -> None:
    assert refusal(scheme=scheme) == "scheme"


@pytest.mark.parametrize("network", [BASE.caip2, BASE_SEPOLIA.caip2, "local", ""])
def test_only_the_owners_network_is_paid_on(network: str) -> None:
    assert refusal(network=network) == "network"


def test_only_the_networks_usdc_is_paid_in() -> None:
    assert refusal(asset=BASE.usdc) == "asset"


def test_only_the_registered_address_is_paid() -> None:
    assert refusal(pay_to="0x" + "bb" * 20) == "payee"


def test_a_vendor_without_a_registered_address_is_not_paid() -> None:
    assert refusal(pay_to=None) == "payee"


@pytest.mark.parametrize("micros", [0, -1])
def test_only_positive_amounts_are_paid(micros: int) -> None:
    assert refusal(amount=Usd(micros)) == "amount"


def test_a_micro_dollar_above_the_quote_is_refused() -> None:
    assert refusal(amount=Usd(QUOTED.micros + 1)) == "quote"


def test_a_micro_dollar_above_the_cap_is_refused_though_it_was_quoted() -> None:
    above = Usd(POLICY.max_per_payment.micros + 1)
    assert refusal(amount=above, quoted=above) == "max_per_payment"
    POLICY.check_terms(terms(amount=POLICY.max_per_payment), quoted=above, pay_to=PAYEE)


@pytest.mark.parametrize("seconds", [29, 0, -5])
def test_a_window_too_short_to_settle_in_is_refused(seconds: int) -> None:
    assert refusal(max_timeout_s=seconds) == "validity"


def test_the_shortest_window_is_long_enough_and_the_owner_may_choose_another() -> None:
    for policy, shortest in (
        (POLICY, SHORTEST_VALIDITY_S),
        (replace(POLICY, shortest_validity_s=60), 60),
    ):
        policy.check_terms(terms(max_timeout_s=shortest), quoted=QUOTED, pay_to=PAYEE)
        with pytest.raises(PolicyRefused):
            policy.check_terms(terms(max_timeout_s=shortest - 1), quoted=QUOTED, pay_to=PAYEE)


def test_what_costs_as_much_as_the_threshold_needs_no_approval() -> None:
    policy = replace(POLICY, approval_threshold=Usd.parse(1))
    assert not policy.needs_approval(Usd.parse(1))
    assert policy.needs_approval(Usd(Usd.parse(1).micros + 1))
    assert not POLICY.needs_approval(Usd.parse(1_000)), "no threshold, no approval"


def test_a_run_may_commit_its_cap_and_not_a_micro_dollar_more() -> None:
    policy = replace(POLICY, max_per_run=Usd.parse(3))
    policy.check_run(Usd.parse(2), Usd.parse(1))
    with pytest.raises(PolicyRefused) as refused:
        policy.check_run(Usd.parse(2), Usd(Usd.parse(1).micros + 1))
    assert refused.value.rule == "max_per_run"
    POLICY.check_run(Usd.parse(1_000), Usd.parse(1_000))


@pytest.mark.parametrize(("wish", "given"), [(300, 300), (10**9, LONGEST_VALIDITY_S)])
def test_an_authorization_lasts_as_the_vendor_wishes_up_to_the_limit(wish: int, given: int) -> None:
    assert POLICY.valid_before(terms(max_timeout_s=wish), 1_000) == 1_000 + given
