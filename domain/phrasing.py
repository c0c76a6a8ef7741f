"""How a message is put: as a question, as a greeting, or as something not to be done yet."""

from __future__ import annotations

import re
from typing import Final

from domain.goals.text import plain

_I: Final = re.IGNORECASE
_ASKS: Final = re.compile(
    r"(?:and |so |but |hey,? |hi,? |ok(?:ay)?,? )?(?!(?:how|what) about\b)"
    r"(?:how (?:much|many)\b.*|"
    r"(?:what(?:'s| is| are)|(?:(?:can|could) you )?tell me) (?:the |your )?"
    r"(?:hourly )?(?:prices?|costs?|rates?)\b.*|"
    r"(?:how|what|which|why|who|where|when|do you|does|is there|are there)\b.*\?\s*|"
    r"(?:is|are) (?:an?|the|any)\b.*\?\s*|(?:can|could) you tell me\b.*\?\s*|"
    r"should (?:i|we)\b.*\?\s*|tell me what\b.*|"
    r"(?:(?:can|could) you )?explain (?:to me )?(?:how|what|why|which)\b.*|"
    r"[\w ]{0,40}\b(?:prices?|costs?)\s*\?\s*)",
    _I | re.DOTALL,
)
_OF_A_RUN: Final = re.compile(
    r"\b(?:did|was|were|spent|paid|why)\b|\bmy (?:\w+ ){0,2}(?:run|job|model|results?)\b", _I
)
_PRICE_OF: Final = re.compile(
    r"\b(?:prices?|costs?|rates?|how much (?:is|are))\b(?!.*\b(?:left|remain|spen[dt]|so far))", _I
)
_GREETS: Final = re.compile(
    r"(?:hello|hi|hey|howdy|good (?:morning|afternoon|evening|day))(?: (?:there|all|again|agent))?",
    _I,
)
_NOT_YET: Final = re.compile(
    r"\b(?:don't|dont|do not|never|without) (?:start|launch|begin)(?:ing)?\b|\bnot yet\b|"
    r"\b(?:don't|dont|do not) (?:rent|buy|pay|run|do|spend) "
    r"(?:it|this|that|anything|yet|now)\b",
    _I,
)
_GREETING_FIRST: Final = re.compile(
    rf"{_GREETS.pattern}(?:[!.,]{{1,3}}\s|\s{{0,3}}\n|\s[–—-]\s)", _I
)


def asks_price(message: str) -> bool:
    """Whether a question is about what things cost, and not about a run's own money."""
    text = plain(message)
    return asks(text) and bool(_PRICE_OF.search(text)) and not asks_of_a_run(text)


def asks(message: str) -> bool:
    """Whether a message is a question: "how much is an A100?" asks for no rental."""
    return bool(_ASKS.fullmatch(plain(message)))


def only_asks(message: str) -> bool:
    """Whether every sentence is a question, whatever else it names: "how much does training on an
    A100 cost?"
    """
    return all(_ASKS.fullmatch(part) for part in re.split(r"(?<=[.!?]) ", plain(message)))


def asks_of_a_run(message: str) -> bool:
    """Whether a question is about an earlier run: "how much did my A100 run cost?"."""
    return bool(_OF_A_RUN.search(plain(message)))


def not_yet(message: str) -> bool:
    """Whether a message says that nothing is to be started, whatever else it says."""
    return bool(_NOT_YET.search(plain(message)))


def greets(message: str) -> bool:
    """Whether a message is a greeting and nothing else."""
    return bool(_GREETS.fullmatch(plain(message).rstrip(" .!")))


def without_greeting(message: str) -> str:
    """The message without the greeting that it begins with: "Hi there! Train a model" is a goal."""
    rest = message.strip()
    while found := _GREETING_FIRST.match(rest):
        rest = rest[found.end() :].lstrip()
    return rest
