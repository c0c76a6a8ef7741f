"""Goals that are being talked about and have started no run yet: one for each conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import Field

from domain.errors import Conflict
from domain.ids import draft_id
from domain.mapping import Mapped
from domain.tokens import UNUSED, ModelUse
from domain.utterance import Utterance
from ledger.run import StoredUse
from ledger.store import Document, Store

COLLECTION: Final = "chat_drafts"
MOST_SAID: Final = 12
KEPT_FOR: Final = timedelta(minutes=15)
"""How long after the last message a draft is kept: later words answer no question so old."""


@dataclass(frozen=True, slots=True)
class Draft(Mapped):
    """What was said so far. run_id: of the run that it will start, once it is complete."""

    session: str
    """The conversation's name."""
    said: tuple[Utterance, ...]
    run_id: str
    version: int = 0
    asked_about: tuple[str, ...] = ()
    """What the person was last asked whether it may be left out."""
    used: Annotated[StoredUse, Field(alias="model")] = UNUSED
    """The model's use in reading it, with which its run begins."""

    def too_old(self, now: datetime) -> bool:
        return now - self.said[-1].at > KEPT_FOR


class Drafts:
    def __init__(self, store: Store) -> None:
        self.documents = store.documents(COLLECTION)

    async def find(self, session: str) -> Draft | None:
        document = await self.documents.get(draft_id(session))
        return Draft.of(document) if document else None

    async def add(
        self,
        draft: Draft | None,
        session: str,
        said: Utterance,
        run_id: str,
        used: ModelUse = UNUSED,
    ) -> Draft:
        """Add one message to the draft; at MOST_SAID, the oldest but the first is dropped.

        draft: as last read. run_id: for a new one. used: by the model to read what was said. Raises
        Conflict when the draft changed meanwhile.
        """
        if draft is None:
            await self.documents.delete_all({"lastSaidAt": {"$lt": said.at - KEPT_FOR}})
            first = Draft(session, (said,), run_id, used=used)
            if await self.documents.insert({"_id": draft_id(session), **_fields(first)}):
                return first
            raise _busy()
        kept = draft.said if len(draft.said) < MOST_SAID else (draft.said[0], *draft.said[2:])
        return await self._change(
            draft,
            Draft(session, (*kept, said), draft.run_id, draft.version + 1, used=draft.used + used),
        )

    async def replace(
        self, draft: Draft, said: Utterance, run_id: str, used: ModelUse = UNUSED
    ) -> Draft:
        """A new draft, with what was said last alone, in the place of an old one.

        draft: as last read. Raises Conflict when it changed meanwhile.
        """
        new = Draft(draft.session, (said,), run_id, draft.version + 1, used=used)
        return await self._change(draft, new)

    async def _change(self, old: Draft, new: Draft) -> Draft:
        if await self.documents.change(
            draft_id(old.session), _as_read(old), {"$set": _fields(new)}
        ):
            return new
        raise _busy()

    async def asks_about(self, draft: Draft, words: Sequence[str]) -> Draft:
        """Keep what the person is asked about. draft: as last read. Raises Conflict when it
        changed meanwhile.
        """
        return await self._change(
            draft, replace(draft, version=draft.version + 1, asked_about=tuple(words))
        )

    async def drop(self, draft: Draft) -> None:
        """Forget a draft, unless it has changed since it was read."""
        await self.documents.delete_all({"_id": draft_id(draft.session), **_as_read(draft)})

    async def forget(self, session: str) -> bool:
        """Delete the draft. False when there is none."""
        return await self.documents.delete(draft_id(session))


def _busy() -> Conflict:
    return Conflict("Another message of yours is being read", "Send this one again")


def _as_read(draft: Draft) -> Document:
    return {"runId": draft.run_id, "version": draft.version}


def _fields(draft: Draft) -> Document:
    return draft.document() | {"lastSaidAt": draft.said[-1].at}
