"""Money in a goal: the one budget that was said, or a question; never a wrong one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.goals import check_goal, read, read_answer
from domain.goals.amounts import Role, amounts
from server.dashboard.home import EXAMPLES

NOW = datetime(2026, 11, 18, 10, tzinfo=UTC)

SAID = [
    ("budget of 5", 5),
    ("no more than $5", 5),
    ("don't spend more than 5", 5),
    ("don't go over $5", 5),
    ("max $2/hour, $10 total", 10),
    ("US$5", 5),
    ("$1,200", 1200),
    ("$5k", 5000),
    ("5k USD", 5000),
    ("$5 thousand", 5000),
    ("$５", 5),
    ("a dollar", 1),
    ("half a dollar", 0.5),
    ("five dollars and fifty cents", 5.5),
    ("$5 and 50 cents", 5.5),
    ("fifty cents", 0.5),
    ("a hundred bucks", 100),
    ("one hundred and twenty dollars", 120),
    ("two and a half dollars", 2.5),
    ("$5 (five dollars)", 5),
    ("$5, i.e. 5 USDC", 5),
    ("5$", 5),
    ("5 $ max", 5),
    ("USDC 5", 5),
    ("5-dollar limit", 5),
    ("$1.4 USDC", 1.4),
    ("1 million dollars", 1_000_000),
    ("$5 for the job", 5),
    ("max 5 bucks", 5),
    ("costs $3 an hour, I'd pay $9", 9),
    ("stay below USD 4.20 please", 4.2),
    ("nothing over $5", 5),
    ("cost no more than 7, please", 7),
    ("budget: five", 5),
    ("my budget is 5", 5),
    ("Budget=4", 4),
    ("the budget should be around $4", 4),
    ("$10 for 2 runs", 10),
    ("about $5", 5),
    ("stop at $5", 5),
    ("<$5", 5),
    ("$5 A100 2h", 5),
    ("A100 2h $5", 5),
    ("$5 8xH100 2h", 5),
    ("between $3 and $5", 5),
    ("between 5 and 10 dollars", 10),
    ("between $3 and $5, cheapest", 5),
    ("1 dollar 50 cents", 1.5),
    ("one dollar fifty cents", 1.5),
    ("50c", 0.5),
    ("under 50c", 0.5),
    ("at most $1.50 an hour, $5 in total", 5),
    ("$5, at most $1.50 an hour", 5),
    ("GPU worth $30000, use it for $4", 4),
    ("we must not exceed a budget of 4", 4),
]
NOT_SAID = [
    "Train a 7B model on 8xH100 for 2 h, 30 epochs, v2",
    "under 5 hours on an A100",
    "max 5 epochs",
    "budget 5 hours",
    "time budget of 5, A100",
    "spend 2 hours on A100",
    "not $5",
    "more than $5",
    "at least $5",
    "$5/h",
    "$5 per hour",
    "$2.50/hr max",
    "€5",
    "A$5",
    "C$5 max",
    "$5 CAD",
    "5 USDT",
    "0.01 ETH",
    "$5-10",
    "$5 to $10",
    "5 to 10 dollars",
    "between $5 and $3",
    "not between $3 and $5",
    "paid between $3 and $5",
    "between $3 and $5 or $6",
    "prices between $3 and $5",
    "between $1 and $2 an hour",
    "a $15000 A100",
    "an A100 $900 card",
    "at 50C",
    "$5 or $6",
    "$1,20",
    "$1.200,50",
    "$5M",
    "$5 000",
    "$5\u200b0",
    "$5٠",
    "a dollar fifty",
    "a couple of dollars",
    "a few bucks",
    "$0",
    "-$5",
    "$-5",
    "I spent $3 so far",
    "last time it cost me $12",
    "a $30,000 GPU",
    "wallet holds $50",
    "I have $50 in my wallet",
    "$5. No wait, $7",
    "pay in USDC 5 hours",
    "$0.0000001",
    "$5e3",
    "$5 per run",
    "$5 each",
    "5 dollars an hour",
    "hourly rate under $2",
    "price per hour below $2",
    "I saved $5",
    "refund of $2",
    "It was $5",
    "$5%",
    "5.5.5 dollars",
    "spend 10 or 12",
    "my budget is tight: 5 epochs",
    "$3, maybe $4",
    "if it costs more than $5 stop",
    "1/2 dollar",
    "train for $5 per epoch",
    "save me $5",
    "Budget 5 USD or 5 EUR",
    "$5 yesterday, $6 today",
    "budget $5, not $50",
    "spend $5 on H100 and $5 on A100",
    "spend over 5",
    "Llama 3.1 8B, rank 16, alpha 32",
]


@pytest.mark.parametrize(("goal", "dollars"), SAID)
def test_a_budget_that_is_said_is_read(goal: str, dollars: float) -> None:
    budget = read(check_goal(goal), NOW).budget
    assert budget is not None
    assert budget.dollars() == dollars


@pytest.mark.parametrize("goal", NOT_SAID)
def test_what_is_not_one_clear_budget_is_asked_back(goal: str) -> None:
    reading = read(check_goal(goal), NOW)
    assert reading.budget is None
    assert "budgetTotal" in reading.missing


@pytest.mark.parametrize(
    "goal",
    [
        "rent an A100 for 2 hours for at most $5",
        "Train on an A100, at most $5, cheapest vendor",
        "Train on an A100 and pay at most $5",
        "Train on an A100, spend at most 5 dollars",
        "Train on an A100 for at the most $5",
        *EXAMPLES,
    ],
)
def test_at_most_so_much_is_a_budget(goal: str) -> None:
    assert read(check_goal(goal), NOW).missing == ()


def test_most_of_something_is_not() -> None:
    assert read("Train on an A100 for most of my $5", NOW).budget is None


def test_two_amounts_are_named_in_the_question() -> None:
    reading = read("Train on an A100, up to $40 or maybe $50", NOW)
    assert reading.question.startswith("You named $40 and $50. How much may I spend at most")


@pytest.mark.parametrize(
    ("answer", "dollars"),
    [
        ("5", 5),
        ("five", 5),
        ("12.50", 12.5),
        ("take 7 dollars", 7),
        ("make it 5", 5),
        ("ok, 5 dollars.", 5),
        ("about 5", 5),
        ("2 hours", None),
        ("not 5", None),
        ("5 or 6", None),
        ("€5", None),
        ("0", None),
        ("5 per hour", None),
        ("I have $500 in the bank", None),
    ],
)
def test_an_answer_to_how_much_may_be_a_bare_number(answer: str, dollars: float | None) -> None:
    amount = read_answer(answer).amount
    assert (amount.dollars() if amount else None) == dollars


@given(st.integers(2, 700), st.sampled_from(("epochs", "GPUs", "B", "x", "h", "GB", "%")))
def test_a_number_of_something_else_is_no_money(number: int, thing: str) -> None:
    assert read(f"Train on an A100 with {number} {thing}, budget pending", NOW).budget is None


@given(st.text(alphabet="$5 .,0k-andforusdmxperhour€", max_size=60))
def test_an_amount_that_is_read_stands_in_the_text(text: str) -> None:
    for amount in amounts(text):
        assert amount.usd is None or amount.usd.micros > 0
        assert amount.role in Role


@pytest.mark.parametrize(
    "part", ["five ", "$5 of ", "a hundred and ", "not ", "$1 ", "one dollar and ", "cost no more "]
)
def test_the_longest_goal_is_read_in_no_time(part: str) -> None:
    long = (part * 4_000)[:4_000]
    assert len(amounts(long)) <= 4_000 / len(part) + 1
    assert read(long, NOW).budget is None
