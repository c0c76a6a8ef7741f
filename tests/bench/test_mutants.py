"""The mutants' harness: what it plays, what it counts, and what it says of survivors."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.mutants import Change, Played, function_of, known_survivors, play, read, summed, tables
from tests.conftest import ROOT

OURS = Change("ledger/budget.py", "Budget.post", "a < b", "a <= b")
NO_CHANGE = Change("ledger/budget.py", "Budget.post", "a[:500]", "a[:501]")
KNOWN = {NO_CHANGE: "nothing is so long"}


def played(change: Change, outcome: str) -> Played:
    return Played("ledger.budget.xǁBudgetǁpost__mutmut_1", change, outcome)


@pytest.mark.parametrize(
    ("mutant", "function"),
    [
        ("ledger.budget.xǁBudgetǁpost__mutmut_12", "Budget.post"),
        ("domain.slices.x__least_waste__mutmut_1", "_least_waste"),
    ],
)
def test_a_mutants_function_is_read_from_its_name(mutant: str, function: str) -> None:
    assert function_of(mutant) == function


def test_what_is_known_to_be_no_change_is_left_out_of_the_share() -> None:
    outcomes = ("killed", "killed", "killed", "survived", "no tests")
    result = [*(played(OURS, one) for one in outcomes), played(NO_CHANGE, "survived")]
    sums = summed(result, KNOWN)
    assert (sums.played, sums.noticed, sums.explained, sums.share) == (6, 3, 1, 0.6)


def test_the_report_names_each_survivor_and_its_reason() -> None:
    result = [played(OURS, "survived"), played(NO_CHANGE, "survived"), played(OURS, "killed")]
    counts, survivors = tables({OURS.module: 9}, result, KNOWN)
    assert counts.rows == [(OURS.module, "9", "3", "1", "1", "1"), ("all", "9", "3", "1", "1", "1")]
    assert survivors.rows == [
        ("ledger/budget.py Budget.post", "`a < b`", "`a <= b`", "**missed** (survived)"),
        ("ledger/budget.py Budget.post", "`a[:500]`", "`a[:501]`", "nothing is so long"),
    ]


def test_each_known_survivor_is_of_a_function_that_there_is_and_has_a_reason() -> None:
    for change, why in known_survivors().items():
        source = (ROOT / change.module).read_text()
        assert f"def {change.function.rpartition('.')[2]}(" in source, change
        assert len(why) > 10, change


PLANTED = """
def larger(a: int, b: int) -> int:
    if a < b:
        return b
    return a

def both(a: int, b: int) -> int:
    return a + b
"""
TESTS = """
from planted.code import both, larger

def test_the_larger_is_given():
    assert (larger(1, 2), larger(2, 1)) == (2, 2)

def test_both_are_counted():
    assert both(2, 3) == 5
"""
TEST = "tests/test_planted.py"
PROJECT = """
[tool.mutmut]
source_paths = ["planted"]
process_isolation = "forkserver"
pytest_add_cli_args_test_selection = ["tests"]
pytest_add_cli_args = ["-p", "no:randomly", "-p", "no:cacheprovider"]
"""


@pytest.mark.skipif(not find_spec("mutmut"), reason="mutmut is not here: make mutants installs it")
def test_a_planted_change_is_noticed_and_one_that_changes_nothing_is_not(tmp_path: Path) -> None:
    for name, text in {
        "pyproject.toml": PROJECT,
        "planted/__init__.py": "",
        "planted/code.py": PLANTED,
        "tests/__init__.py": "",
        "tests/test_planted.py": TESTS,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    table = tmp_path / "mutants.toml"
    table.write_text(f'[around]\n"planted/code.py" = ["{TEST}"]\n')

    made, results = read(play(tmp_path, table, ["--seed", "1"]))

    assert made == {"planted/code.py": 2}
    assert {(p.change.was, p.change.now): (p.outcome, p.killer) for p in results} == {
        ("if a < b:", "if a <= b:"): ("survived", None),
        ("return a + b", "return a - b"): ("killed", f"{TEST}::test_both_are_counted"),
    }
