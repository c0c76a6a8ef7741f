"""The whole of each conversation, in MongoDB. What prompts and checkpoints hold is a window of it.

LangChain's history is synchronous: it is used in a thread, over the checkpoints' client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from langchain_core.messages import BaseMessage
from langchain_mongodb import MongoDBChatMessageHistory
from langgraph.checkpoint.mongodb import MongoDBSaver
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ledger.store import store_down

COLLECTION: Final = "chat_messages"
SESSION: Final = "SessionId"
"""The field of a message that names its conversation."""
T = TypeVar("T")


def session_of(user_id: str, run_id: str | None, talk_id: str = "") -> str:
    """The name of a conversation: about a run, or a user's before there is one, on a page if it has
    one.
    """
    if run_id:
        return f"run:{run_id}"
    return f"talk:{talk_id}:{user_id}" if talk_id else f"user:{user_id}"


class Transcripts:
    def __init__(self, client: MongoClient[Any], database: str) -> None:
        self._client = client
        self._database = database

    @classmethod
    def beside(cls, saver: MongoDBSaver) -> Transcripts:
        """In the database of the checkpoints, over their client."""
        return cls(saver.client, saver.db.name)

    async def add(self, session: str, messages: Sequence[BaseMessage]) -> None:
        """Append to a conversation. Raises StoreDown."""
        await self._do(lambda: self._history(session).add_messages(messages))

    async def ensure_index(self) -> None:
        """Make the index, once at start. Raises StoreDown."""
        await self._do(lambda: self._history("", index=True))

    async def last(self, session: str, most: int) -> list[BaseMessage]:
        """The newest messages, oldest first. Raises StoreDown."""
        return await self._do(lambda: self._history(session, most).messages)

    def _history(
        self, session: str, most: int | None = None, *, index: bool = False
    ) -> MongoDBChatMessageHistory:
        return MongoDBChatMessageHistory(
            None,
            session,
            self._database,
            COLLECTION,
            client=self._client,
            create_index=index,
            history_size=most,
            session_id_key=SESSION,
        )

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except PyMongoError as error:
            raise store_down(error) from error
