"""What the reader gets right of 60 goal sentences, field by field; `-s` shows it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from domain.goals import Reading, read
from tests.domain.goal_sentences import FIELDS, FIRST, NOW, SECOND, Sentence


def said(reading: Reading) -> dict[str, Any]:
    """The reading in the fields of the sentences."""
    return {
        "jobType": reading.job_type,
        "gpuType": reading.gpu_type,
        "gpuCount": reading.gpu_count,
        "maxHours": reading.minutes / 60 if reading.minutes else None,
        "budgetTotal": reading.budget.dollars() if reading.budget else None,
        "deadline": reading.deadline.isoformat() if reading.deadline else None,
        "preference": reading.preference.value if reading.preference else None,
        "excludedVendors": list(reading.excluded_vendors),
        "missing": list(reading.missing),
    }


def expected(fields: dict[str, Any]) -> dict[str, Any]:
    nothing = dict.fromkeys(FIELDS) | {"excludedVendors": [], "missing": []}
    return nothing | fields


def score(name: str, sentences: tuple[Sentence, ...]) -> tuple[float, list[str]]:
    """The share of fields that are right, and the budgets that are wrong. Prints what is wrong."""
    right: Counter[str] = Counter()
    wrong, budgets = [], []
    for sentence, fields in sentences:
        read_as, wanted = said(read(sentence, NOW)), expected(fields)
        for field in FIELDS:
            if (
                read_as[field] == pytest.approx(wanted[field])
                if field == "maxHours" and wanted[field]
                else read_as[field] == wanted[field]
            ):
                right[field] += 1
            else:
                wrong.append(f"{field}: {read_as[field]!r}, not {wanted[field]!r}: {sentence}")
        if read_as["budgetTotal"] not in (None, wanted["budgetTotal"]):
            budgets.append(sentence)
    share = right.total() / (len(sentences) * len(FIELDS))
    print(f"\n{name}: {right.total()} of {len(sentences) * len(FIELDS)} fields ({share:.1%})")
    print("  " + ", ".join(f"{field} {right[field]}/{len(sentences)}" for field in FIELDS))
    print("".join(f"  {line}\n" for line in wrong), end="")
    return share, budgets


def test_there_are_60_sentences_and_none_twice() -> None:
    assert len({sentence for sentence, _ in (*FIRST, *SECOND)}) == 60
    assert len(FIRST) == len(SECOND) == 30


def test_the_sentences_that_the_reader_was_written_with() -> None:
    share, wrong_budgets = score("first half", FIRST)
    assert wrong_budgets == []
    assert share >= 0.95


def test_the_sentences_that_it_was_not_written_with() -> None:
    share, wrong_budgets = score("second half", SECOND)
    assert wrong_budgets == []
    assert share >= 0.85
