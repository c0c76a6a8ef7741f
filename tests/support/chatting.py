"""Chatting in a World: what the agent says, put together."""

from __future__ import annotations

from dataclasses import dataclass

from server.chat.conversation import Chat
from server.chat.replies import Said
from tests.support.world import Process, World


@dataclass(slots=True)
class Person:
    """Who talks with a process of the agent."""

    process: Process
    user_id: str = "user_1"
    talk_id: str = ""

    async def hears(
        self, message: str, run_id: str | None = None, message_id: str | None = None
    ) -> list[Said]:
        chat = Chat(self.process.services)
        said = chat.say(self.user_id, message, run_id, message_id, talk_id=self.talk_id)
        return [piece async for piece in said]

    async def told(
        self, message: str, run_id: str | None = None, message_id: str | None = None
    ) -> str:
        """The agent's words alone."""
        pieces = await self.hears(message, run_id, message_id)
        return "\n".join(piece.text for piece in pieces if piece.kind != "run")


def person(world: World, user_id: str = "user_1", talk_id: str = "") -> Person:
    return Person(world.process, user_id, talk_id)


def run_of(pieces: list[Said]) -> str:
    """The run that the pieces talk about."""
    [run_id] = {str(piece.data["runId"]) for piece in pieces if piece.kind == "run"}
    return run_id
