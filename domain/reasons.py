"""Why something is not done: a code and fields for programs, and the sentence made of them.

What code decides by is the code alone; the sentence is for people, and nothing reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Self

_MORE: Final = "Start it again with a larger budget, or for less time."
_LATER: Final = "Start it again with a later deadline, or for less time."
_OTHER: Final = 'Name another GPU or vendor in a new run; "show me the prices" lists what there is.'
_FEWER: Final = (
    "Ask for fewer or cheaper GPUs in a new run, or have MAX_EXPOSURE_USD raised where this server "
    "runs."
)


class ReasonCode(Enum):
    """Each code has a sentence, and a remedy for a person, which may be empty."""

    def __init__(self, sentence: str, remedy: str = "") -> None:
        self.sentence, self.remedy = sentence, remedy

    LACKS_GPU = "{vendors}, to rent from alone, has no {gpu}{on_offer}", _OTHER
    NOBODY_HAS = "no registered vendor has {gpu}{beside}{on_offer}", _OTHER
    TOO_LATE = "the job needs {hours:g} h, and cannot be done by {deadline} any more", _LATER
    OFFERS_LATE = "no offer within {left} can be done in the {span} left", _LATER
    SHORT = "the budget has {left} left, and the cheapest vendor asks about {cheapest}", _MORE
    OFFERS_DEAR = "the cheapest offer is {cheapest} for the whole job and {left} is left", _MORE
    DEAR = "it asks for more than {limit}, however little time it is asked for", _FEWER
    MINUTE_DEAR = "not asked: a minute of it costs more than {limit}", _FEWER
    FREE = ("no payment was asked",)


class Reason(str):
    """A sentence, with the code and the fields that it was made of: Reason.of(code, …).

    One that repeats somebody else's words (a vendor's, a model's, a person's) has no code.
    """

    data: Mapping[str, Any]
    """What is stored beside the words: the code's name, and the fields."""

    def __new__(cls, words: str, data: Mapping[str, Any] | None = None) -> Self:
        """A reason from stored words and data; documents of an older version have no data."""
        reason = super().__new__(cls, words)
        reason.data = data or getattr(words, "data", {})
        return reason

    @classmethod
    def of(cls, code: ReasonCode, **fields: str | float) -> Self:
        """The reason of this code. fields: what its sentence names."""
        return cls(code.sentence.format(**fields), {"code": code.name.lower(), **fields})

    @property
    def code(self) -> ReasonCode | None:
        """The code; None where it has none, or one that only a later version knows."""
        return ReasonCode.__members__.get(str(self.data.get("code")).upper())

    @property
    def remedy(self) -> str:
        """What a person can do about it; empty where nothing is known."""
        return self.code.remedy if self.code else ""
