"""What a person said is a value that is read once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.errors import InvalidInput
from domain.goals import read
from domain.goals.findings import Findings, find
from domain.money import Usd
from domain.utterance import Utterance

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_its_reading_and_what_is_left_out_come_of_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def watched(text: str, now: datetime | None) -> Findings:
        looked.append(text)
        return find(text, now)

    monkeypatch.setattr("domain.utterance.find", watched)
    said = Utterance("Fine-tune on an A100 with train.py by tomorrow, $5", NOW)
    for _ in range(2):
        assert said.reading == read(said.text, NOW)
        assert said.left_out.own == ("train.py",)
    assert looked == [said.text]


def test_it_is_a_goal_and_an_answer() -> None:
    said = Utterance("5", NOW)
    assert said.reading.budget is None
    assert said.answer.amount == Usd.parse(5)


def test_what_cannot_be_rented_is_refused_and_what_is_left_out_is_told_all_the_same() -> None:
    said = Utterance("Run train.py for 40 days", NOW)
    with pytest.raises(InvalidInput, match="40 days"):
        _ = said.reading
    assert said.left_out.own == ("train.py",)
