"""Runs' ids as people type them: whole, or the beginning of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.errors import InvalidInput

WHOLE: Final = 24
"""Characters of an id that is made here."""
SHORTEST: Final = 4
"""Characters of a beginning that is looked up."""
MOST_MATCHES: Final = 6
"""Ids to look up for a beginning: one more than are listed where it is not clear."""


def is_short(given: str) -> bool:
    """Whether it may be the beginning of an id only, and is to be looked up."""
    return SHORTEST <= len(given) < WHOLE


def the_one(given: str, found: Sequence[str]) -> str:
    """The id that `given` stands for. `found`: the ids that begin with it, MOST_MATCHES at most.

    What is whole, or begins none, is given back as it is. Raises InvalidInput where it begins
    several.
    """
    if given in found or not found:
        return given
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found[: MOST_MATCHES - 1])
    more = " and more" if len(found) >= MOST_MATCHES else ""
    raise InvalidInput(
        "RUN", f"{given!r} begins several runs: {listed}{more}", "Give more of its id"
    )
