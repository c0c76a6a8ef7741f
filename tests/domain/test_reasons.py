"""Reasons are codes with fields; their sentences are for people, and no code reads one back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from string import Formatter

import pytest

from domain.journal import NoteClass, NoteType
from domain.reasons import Reason, ReasonCode

ROOT = Path(__file__).parents[2]
ROOMS = ("server", "graph", "tools")
READS_AS_WORDS = re.compile(r"[A-Za-z]{2,} [a-z]{2,}|^ [a-z]{2,}|[A-Za-z]{2,},?:? $")
"""Two words, or one with the space to its neighbour."""
PARSERS = frozenset(
    [
        "startswith",
        "endswith",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
        "find",
        "index",
        "split",
        "count",
    ]
)
OF_OTHERS = {
    ("graph/goals/reader.py", "vendor "): "a person's words",
    ("server/config/settings.py", "Value error, "): "pydantic's words, for people",
    ("server/demo/view.py", "ERROR "): "a vendor's log line",
    ("server/cli.py", "Exit status:"): "a docstring's heading",
}


def test_a_reason_is_its_sentence_with_its_code_and_fields() -> None:
    reason = Reason.of(ReasonCode.OFFERS_DEAR, cheapest="$7.00", left="$5.00")
    assert reason == "the cheapest offer is $7.00 for the whole job and $5.00 is left"
    assert "larger budget" in reason.remedy
    stored = Reason(str(reason), reason.data)
    for same in (stored, deepcopy(reason)):
        assert (same, same.code, same.data) == (reason, reason.code, reason.data)
    assert Reason(reason).data == {"code": "offers_dear", "cheapest": "$7.00", "left": "$5.00"}


@pytest.mark.parametrize("data", [None, {}, {"code": "of a later version", "left": "$1"}])
def test_what_another_version_stored_is_read_as_its_words(data: dict[str, str] | None) -> None:
    reason = Reason("the budget has $1 left", data)
    assert (reason, reason.code, reason.remedy) == ("the budget has $1 left", None, "")


def test_a_note_type_of_another_version_is_read_as_it_is() -> None:
    old = NoteType("vendor_log")
    assert (old, old.value, old.classes, old.tone) == (
        "vendor_log",
        "vendor_log",
        NoteClass(0),
        "",
    )
    assert old not in set(NoteType)
    assert NoteType("payment_settled") is NoteType.PAYMENT_SETTLED


def test_what_touches_money_is_told_to_operators() -> None:
    """Whoever adds a type of these names gives it its class."""
    for type_ in NoteType:
        about_money = type_.startswith(("payment_", "refund_", "budget_", "approval_", "run_"))
        assert not about_money or NoteClass.MONEY in type_.classes, type_


@pytest.mark.parametrize("code", ReasonCode)
def test_every_sentence_can_be_made_of_its_fields(code: ReasonCode) -> None:
    fields = {name: 1.0 for _, name, _, _ in Formatter().parse(code.sentence) if name}
    assert Reason.of(code, **fields).data.keys() == {"code", *fields}


def test_no_code_decides_by_a_sentence() -> None:
    constants = {name: text for path in modules() for name, text in texts_of(path)}
    found = {
        (path.relative_to(ROOT).as_posix(), literal)
        for path in modules()
        for literal in matched_on(ast.parse(path.read_text()), constants)
        if READS_AS_WORDS.search(literal)
    }
    assert found == set(OF_OTHERS), "what code needs to know is a code, see domain/reasons.py"


def test_a_sentence_that_code_decides_by_is_found() -> None:
    parsed = ast.parse(
        "a = 'Proceeding with payment' in text\n"
        "b = message == WAITING\n"
        "c = text.partition(f'to vendor {name}: ')\n"
        "match text:\n    case 'Job still running': pass\n"
        "d = 'rent' == decision and kind in ('quote', 'no_quote')\n"
    )
    sentences = set(matched_on(parsed, {"WAITING": "Waiting for approval"}))
    assert {s for s in sentences if READS_AS_WORDS.search(s)} == {
        "Proceeding with payment",
        "Waiting for approval",
        "to vendor ",
        "Job still running",
    }


def modules() -> Iterator[Path]:
    for room in ROOMS:
        yield from (ROOT / room).rglob("*.py")


def texts_of(path: Path) -> Iterator[tuple[str, str]]:
    """The module's constants that are text."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text)))
                | ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text)))
            ):
                yield name, text


def matched_on(module: ast.Module, constants: dict[str, str]) -> Iterator[str]:
    """The literals that the module compares with, or looks for in other text."""
    for node in ast.walk(module):
        match node:
            case ast.Compare(left=left, comparators=others):
                sides: list[ast.AST] = [left, *others]
            case ast.Call(func=ast.Attribute(attr=attr), args=args) if attr in PARSERS:
                sides = [*args]
            case ast.match_case(pattern=pattern):
                sides = [pattern]
            case _:
                continue
        for part in (part for side in sides for part in ast.walk(side)):
            match part:
                case ast.Constant(value=str(text)):
                    yield text
                case ast.Name(id=name) if name in constants:
                    yield constants[name]
