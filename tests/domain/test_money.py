"""Money: exact, whole micro-dollars, and nothing that is no amount gets in."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.money import LARGEST, ZERO, Usd

amounts = st.integers(0, LARGEST).map(Usd)


@given(amounts)
def test_an_amount_survives_being_written_and_read(amount: Usd) -> None:
    assert Usd.parse(amount.exact()) == amount
    assert Usd.parse(Decimal(amount.micros) / 1_000_000) == amount


@given(st.integers(0, 10**9).map(Usd))
def test_an_amount_up_to_a_thousand_dollars_survives_being_a_number_in_json(amount: Usd) -> None:
    assert Usd.parse(amount.dollars()) == amount


@given(amounts, amounts, amounts)
def test_adding_is_exact_and_in_any_order(a: Usd, b: Usd, c: Usd) -> None:
    assert (a + b) + c == a + (b + c) == c + b + a
    assert a + b - b == a
    assert a + ZERO == a


@given(amounts, st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_share_is_rounded_up_by_less_than_a_micro_dollar(amount: Usd, n: int, d: int) -> None:
    exact = amount.micros * n
    scaled = amount.scaled(n, d).micros * d
    assert exact <= scaled < exact + d


@given(st.text(max_size=80))
def test_whatever_text_is_read_is_a_sound_amount_or_refused(text: str) -> None:
    try:
        amount = Usd.parse(text)
    except InvalidInput:
        return
    assert 0 <= amount.micros <= LARGEST


@given(st.floats())
def test_whatever_number_is_read_is_a_sound_amount_or_refused(number: float) -> None:
    try:
        amount = Usd.parse(number)
    except InvalidInput:
        return
    assert 0 <= amount.micros <= LARGEST


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        (5, 5_000_000),
        (1.4, 1_400_000),
        ("5", 5_000_000),
        ("$5.00", 5_000_000),
        ("1.4 USDC", 1_400_000),
        ("1,000 dollars", 1_000_000_000),
        (".5", 500_000),
        (Decimal("0.000001"), 1),
        (0, 0),
    ],
)
def test_amounts_are_read_as_people_write_them(written: object, micros: int) -> None:
    assert Usd.parse(written) == Usd(micros)


@pytest.mark.parametrize(
    "written",
    [
        "five",
        "",
        "-1",
        -1,
        -0.01,
        float("nan"),
        float("inf"),
        "NaN",
        "1e9999",
        "0.0000001",
        0.0000001,
        1_000_000_001,
        True,
        None,
        [5],
        "5 5",
        "$",
    ],
)
def test_what_is_no_amount_is_refused_and_the_field_named(written: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Usd.parse(written, "budget")
    assert refusal.value.field == "budget"


def test_a_float_never_holds_money() -> None:
    with pytest.raises(TypeError):
        Usd(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("micros", "shown", "exact"),
    [
        (1_400_000, "$1.40", "$1.40"),
        (1_400_001, "$1.40", "$1.400001"),
        (1_996_667, "$2.00", "$1.996667"),
        (1_234_567_891, "$1,234.57", "$1,234.567891"),
        (4_200, "$0.0042", "$0.0042"),
        (933_300, "$0.93", "$0.9333"),
        (15_500, "$0.0155", "$0.0155"),
        (20_001, "$0.02", "$0.020001"),
        (99_999, "$0.10", "$0.099999"),
        (999_999, "$1.00", "$0.999999"),
        (100, "$0.0001", "$0.0001"),
        (1, "<$0.0001", "$0.000001"),
        (0, "$0.00", "$0.00"),
        (-250_000, "-$0.25", "-$0.25"),
    ],
)
def test_people_read_cents_and_four_decimals_where_a_cent_is_much(
    micros: int, shown: str, exact: str
) -> None:
    assert (str(Usd(micros)), Usd(micros).exact()) == (shown, exact)


@given(amounts)
def test_what_people_read_is_off_by_half_of_its_last_digit_at_most(amount: Usd) -> None:
    shown = str(amount)
    least = 100 if len(shown.partition(".")[2]) == 4 else 10_000
    if not shown.startswith("<"):
        assert abs(Usd.parse(shown).micros - amount.micros) <= least // 2
