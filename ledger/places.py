"""Places for open runs: as many as may be open at once, in all and of one user.

A run takes its places in the write that creates it, and gives them back in the write that ends it;
two unique indexes let nobody else have them meanwhile. So no race passes the limit, and no crash
leaves a place taken.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final

from pymongo import ASCENDING, IndexModel

from domain.errors import TooManyRuns
from domain.policy import OpenRuns
from ledger.store import Document, Documents, Query

IN_ALL: Final = "place"
OF_USER: Final = "userPlace"
GIVEN_BACK: Final = {IN_ALL: "", OF_USER: ""}
"""The `$unset` that gives a run's places back, in the write that ends it."""


def place_indexes() -> list[IndexModel]:
    return [
        IndexModel(
            [(field, ASCENDING)],
            unique=True,
            partialFilterExpression={field: {"$type": "string"}},
        )
        for field in (IN_ALL, OF_USER)
    ]


async def free_places(runs: Documents, user_id: str, most: OpenRuns) -> Document:
    """Fields for a new run of this user: places that were free when looked at. Another run may be
    faster: then the insert finds them taken.

    Raises TooManyRuns, which names the setting.
    """
    places = {}
    if most.in_all is not None:
        query: Query = {IN_ALL: {"$type": "string"}}
        taken = await _taken(runs, IN_ALL, query, "")
        places[IN_ALL] = _one_of(most.in_all, taken, "runs are open here", "MAX_OPEN_RUNS")
    if most.a_user is not None:
        prefix = f"{user_id}|"
        query = {OF_USER: {"$gte": prefix, "$lt": f"{prefix}~"}}
        taken = await _taken(runs, OF_USER, query, prefix)
        what = "of this user's runs are open"
        places[OF_USER] = prefix + _one_of(most.a_user, taken, what, "MAX_OPEN_RUNS_PER_USER")
    return places


async def _taken(runs: Documents, field: str, query: Query, prefix: str) -> set[str]:
    found = await runs.find(query, fields={field: 1})
    return {document[field].removeprefix(prefix) for document in found}


def _one_of(most: int, taken: Iterable[str], what: str, setting: str) -> str:
    numbers = {number for number in taken if number.isdecimal()}  # of "a|b", another user's, too
    free = list({str(number) for number in range(most)} - numbers)
    if not free or len(numbers) >= most:  # a higher limit of before may have given higher ones
        raise TooManyRuns(
            f"{most} {what} already, and no more may be ({setting})",
            f"Wait until one has ended, cancel one, or raise {setting}",
        )
    return secrets.choice(free)
