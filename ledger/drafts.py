"""Goals that are being talked about and have started no run yet: one for each user."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.errors import Conflict
from ledger.store import Document, Store

COLLECTION: Final = "chat_drafts"
MOST_SAID: Final = 12


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a person said, and when."""

    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """What a user has said so far. run_id: of the run that it will start, once it is complete."""

    user_id: str
    said: tuple[Utterance, ...]
    run_id: str
    version: int = 0


class Drafts:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def find(self, user_id: str) -> Draft | None:
        document = await self.documents.get(_id(user_id))
        return _draft(document) if document else None

    async def add(self, draft: Draft | None, user_id: str, said: Utterance, run_id: str) -> Draft:
        """The draft with one thing more; the oldest but the first is forgotten at MOST_SAID.

        draft: as last read. run_id: for a new one. Raises Conflict when it changed meanwhile.
        """
        if draft is None:
            first = Draft(user_id, (said,), run_id)
            if await self.documents.insert({"_id": _id(user_id), **_fields(first)}):
                return first
            raise _busy()
        kept = draft.said if len(draft.said) < MOST_SAID else (draft.said[0], *draft.said[2:])
        longer = Draft(user_id, (*kept, said), draft.run_id, draft.version + 1)
        guard = {"runId": draft.run_id, "version": draft.version}
        if await self.documents.change(_id(user_id), guard, {"$set": _fields(longer)}):
            return longer
        raise _busy()

    async def forget(self, user_id: str) -> bool:
        """False when there is none."""
        return await self.documents.delete(_id(user_id))


def _busy() -> Conflict:
    return Conflict("Another message of yours is being read", "Send this one again")


def _id(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()


def _fields(draft: Draft) -> Document:
    said: Sequence[Document] = [{"text": s.text, "at": s.at} for s in draft.said]
    return {
        "userId": draft.user_id,
        "said": said,
        "runId": draft.run_id,
        "version": draft.version,
    }


def _draft(document: Document) -> Draft:
    said = tuple(Utterance(s["text"], s["at"]) for s in document["said"])
    return Draft(document["userId"], said, document["runId"], document["version"])
