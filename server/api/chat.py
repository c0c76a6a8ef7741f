"""POST /api/chat: the agent's answer as JSON, or as server-sent events where they are asked for.

FastAPI's own event routes answer nothing but events, and this one both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from ledger.idempotency import Marker
from server.access import WhoAsks
from server.api.chat_schemas import ChatAnswer, ChatRequest, SaidView
from server.api.documented import EVENT, of_post
from server.api.exact_json import ExactRoute
from server.chat.conversation import Chat
from server.chat.replies import Said
from server.keeper import Keeper
from server.middleware.http_errors import UNEXPECTED
from server.middleware.idempotency import marker_of

LOG: Final = logging.getLogger(__name__)
EVENTS: Final = "text/event-stream"
_STREAM: Final[dict[str, Any]] = {
    "description": "Events `words`, `action`, `question`, `run` or `error`, and `end` as the last",
    "content": {EVENTS: {"schema": EVENT}},
}


def chat_routes(keeper: Keeper) -> APIRouter:
    """The chat's address."""
    router = APIRouter(prefix="/api", route_class=ExactRoute, tags=["agent"])

    @router.post(
        "/chat", response_model=ChatAnswer, responses={200: _STREAM, **of_post(404, 409, 502)}
    )
    async def chat(
        request: ChatRequest,
        who: WhoAsks,
        marker: Annotated[Marker | None, Depends(marker_of)],
        http: Request,
    ) -> ChatAnswer | StreamingResponse:
        """Talk with the agent: tell it a goal, or ask about a run that is yours.

        Without `runId`, the message is a goal or a part of one; what is missing is asked back, one
        question at a time, and the run starts when nothing is. With it, "how is it going?", "what
        did you spend and why?", "stop", "you may spend 2 more", "go on", and "approve" or "reject"
        for a payment that waits. Answers as one JSON document, or with `Accept: text/event-stream`
        as server-sent events.
        """
        user_id = who.acts_as(request.user_id)
        # Under an Idempotency-Key, a repetition is the same message.
        message_id = request.message_id or (marker.run_id if marker else None)
        said = Chat(await keeper.services()).say(
            user_id, request.message, request.run_id, message_id
        )
        first = await anext(said)  # an error before any answer is an HTTP error
        if wants_json(http.headers.get("accept", "")):
            return answer_of([first, *[piece async for piece in said]])
        return StreamingResponse(_events(first, said), media_type=EVENTS)

    return router


def wants_json(accept: str) -> bool:
    """Whether a request gets JSON: whoever wants events asks for them by name."""
    return EVENTS not in accept.lower()


def answer_of(pieces: list[Said]) -> ChatAnswer:
    run_id = next((str(p.data["runId"]) for p in pieces if p.kind == "run"), None)
    return ChatAnswer(
        run_id=run_id,
        text="\n".join(p.text for p in pieces if p.kind != "run"),
        said=[SaidView(kind=p.kind, text=p.text, data=dict(p.data)) for p in pieces],
    )


async def _events(first: Said, rest: AsyncIterator[Said]) -> AsyncIterator[bytes]:
    yield event(first.kind, first)
    try:
        async for piece in rest:
            yield event(piece.kind, piece)
    except Exception:  # the outermost edge: the response has begun, so there is no other answer
        LOG.exception("a chat failed")
        yield event("error", Said(UNEXPECTED, "error"))
    yield format_sse_event(event="end", data_str="{}")


def event(name: str, said: Said) -> bytes:
    """One server-sent event; its data is one line of JSON."""
    data = json.dumps({"text": said.text, "data": dict(said.data)}, ensure_ascii=False)
    return format_sse_event(event=name, data_str=data)
