"""The chat with the agent, as the pages need it. What it can do is in server/chat/."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from domain.errors import RenterError
from server.wiring import Services

if TYPE_CHECKING:
    from server.chat.conversation import Said

LONGEST_MESSAGE: Final = 4_000


async def talk(
    services: Services, user_id: str, message: str, run_id: str | None, page_id: str
) -> AsyncIterator[Said]:
    """What the agent says and does about a message; a failure is said too.

    page_id: of the page that it is written on: what is said on another page is no part of it.
    """
    from server.chat.conversation import (  # with the first message: it may load a model's client
        Chat,
        Said,
    )

    try:
        words = message[:LONGEST_MESSAGE]
        async for said in Chat(services).say(user_id, words, run_id, talk_id=page_id):
            yield said
    except RenterError as error:
        yield Said("error", str(error), {})
