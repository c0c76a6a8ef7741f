"""What a person said, as a value: made where the words arrive, and read once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from domain.goals.amounts import SaidBudget, read_answer
from domain.goals.findings import Findings, find
from domain.goals.left_out import LeftOut, left_out
from domain.goals.reading import Reading, reading_of
from domain.intents import Intent, read_intent
from domain.mapping import Mapped


@dataclass(frozen=True)
class Utterance(Mapped):
    """What a person said, and when. Each reading is made when it is first asked for, and kept.

    at: aware, in the speaker's time zone.
    """

    text: str
    at: datetime

    @cached_property
    def found(self) -> Findings:
        """What the rules find in the text."""
        return find(self.text, self.at)

    @cached_property
    def reading(self) -> Reading:
        """The text as a goal. Raises InvalidInput for a job that cannot be rented."""
        return reading_of(self.found)

    @cached_property
    def left_out(self) -> LeftOut:
        """What a run for this goal would leave out."""
        return left_out(self.found)

    @cached_property
    def intent(self) -> Intent:
        """The text as a message about an existing run."""
        return read_intent(self.text)

    @cached_property
    def answer(self) -> SaidBudget:
        """The text as an answer to "How much may I spend?"."""
        return read_answer(self.text)
