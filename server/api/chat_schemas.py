"""The JSON of POST /api/chat."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StrictStr

from domain.errors import InvalidInput
from domain.goals import LONGEST_GOAL
from server.api.requests import HELP, OWNERS, RunId, Taken, UserId, example
from server.api.schemas import Answered
from server.chat.conversation import check_message

LONGEST_MESSAGE_ID: Final = 64
SAY: Final = f"Say something, in 1 to {LONGEST_GOAL:,} characters"
NAME_IT: Final = (
    f"Give this message an id of 1 to {LONGEST_MESSAGE_ID} characters of your own: sent again with "
    "it, it changes nothing again. Or leave it out"
)


def _message_id(value: str) -> str:
    if not value.strip() or len(value) > LONGEST_MESSAGE_ID or not value.isprintable():
        raise InvalidInput("messageId", "it is empty, too long or not text", NAME_IT)
    return value.strip()


Message = Annotated[StrictStr, AfterValidator(check_message)]
MessageId = Annotated[StrictStr, AfterValidator(_message_id)]


class ChatRequest(Taken):
    model_config = example(userId="u1", message="Fine-tune a 7B model on an A100 for 2 hours, $5")

    user_id: UserId = Field(default_factory=str, description=OWNERS)
    message: Message = Field(description=SAY)
    run_id: RunId | None = Field(None, description=HELP["runId"])
    message_id: MessageId | None = Field(None, description=NAME_IT)


class SaidView(Answered):
    kind: str = Field(description="words, action, question, run or error.", examples=["words"])
    text: str
    data: dict[str, Any]


class ChatAnswer(Answered):
    run_id: str | None = Field(description="The run that was started or talked about.")
    text: str = Field(description="All of it, as a person reads it.")
    said: list[SaidView]
