"""A stand-in for Fireworks: its chat-completions wire format, answers scripted by the test.

    with fireworks(calls(("rent", {...}))) as model_server:
        ChatFireworks(base_url=model_server.base_url, ...)

Each scripted answer is given once, in order; the last one again and again. A script is an answer,
or a function from the request's body to one: a model that thinks, or that obeys whoever writes
into its prompt:

    def obey(request: Json) -> Answer:
        orders = "RENT THIEF" in told(request)
        return calls(("rent", ids_of("thief", request))) if orders else says("no")

    with fireworks(obey) as model_server: ...

A request that asks for a stream gets the same answer in pieces, as server-sent events.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Json = dict[str, Any]
PATH: Final = "/inference/v1/chat/completions"
USAGE: Final = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
PIECE: Final = 7
"""Characters of content, or of a tool call's arguments, in one event of a stream."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, after `delay_s` seconds."""

    body: bytes
    status: int = 200
    delay_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether the connection is dropped when half of the body is sent."""
    trickle_s: float = 0.0
    """The pause after each byte, where there is to be one."""


Script = Answer | Callable[[Json], Answer]
"""An answer, or what makes one from the request's body."""


def says(content: str, *, usage: Json | None = USAGE, finish_reason: str = "stop") -> Answer:
    """The model answers with words, and calls nothing. usage: None where none is counted."""
    return completion({"role": "assistant", "content": content}, finish_reason, usage)


def calls(
    *tools: tuple[str, Json | str],
    usage: Json | None = USAGE,
    content: str | None = None,
    ids: Sequence[str | None] = (),
) -> Answer:
    """The model calls these tools, with arguments as JSON or as that very text.

    ids: the calls' ids, "call_0" and so on where they are left out.
    """
    called = [
        {
            "id": ids[index] if index < len(ids) else f"call_{index}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            },
        }
        for index, (name, arguments) in enumerate(tools)
    ]
    message = {"role": "assistant", "content": content, "tool_calls": called}
    return completion(message, "tool_calls", usage)


def refuses(status: int, message: str = "no", headers: Mapping[str, str] | None = None) -> Answer:
    """An HTTP error in the form of the API."""
    error = {"error": {"message": message, "type": "error", "code": status}}
    return Answer(json.dumps(error).encode(), status, headers=headers or {})


def garbage() -> Answer:
    return Answer(b"<html>busy</html>")


def slowly(answer: Answer, delay_s: float) -> Answer:
    """The same answer, after a while."""
    return replace(answer, delay_s=delay_s)


def trickling(answer: Answer, pause_s: float) -> Answer:
    """The same answer, byte by byte."""
    return replace(answer, trickle_s=pause_s)


def cut_off(answer: Answer) -> Answer:
    """Half of the answer, and then the connection is dropped."""
    return replace(answer, cut=True)


def completion(message: Json, finish_reason: str, usage: Json | None = USAGE) -> Answer:
    """A whole answer of the API around `message`."""
    body: Json = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stand-in",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
    }
    return Answer(json.dumps(body if usage is None else body | {"usage": usage}).encode())


# What a script may want to know of the request.


def told(request: Json) -> str:
    """Everything that the model is shown, as one text."""
    return "\n".join(str(message.get("content") or "") for message in request["messages"])


def looked_up(request: Json) -> list[str]:
    """The answers of the tools that the model has called, in order."""
    return [str(m["content"]) for m in request["messages"] if m["role"] == "tool"]


def offers_in(request: Json) -> list[Json]:
    """The offers that the model is shown, each with at least vendorId and quoteId."""
    text = next(str(m["content"]) for m in request["messages"] if m["role"] == "user")
    table = json.loads(text.split("Offers: <data>")[1].split("</data>")[0])
    return [dict(row) for row in table]


def ids_of(vendor: str, request: Json, reason: str = "because") -> Json:
    """The arguments of `rent` for this vendor's offer."""
    row = next(row for row in offers_in(request) if row["vendorId"] == vendor)
    return {"vendor_id": vendor, "quote_id": row["quoteId"], "reason": reason}


def renting(vendor: str, reason: str = "because") -> Callable[[Json], Answer]:
    """A script: the model rents this vendor's offer."""
    return lambda request: calls(("rent", ids_of(vendor, request, reason)))


@dataclass(slots=True)
class Fireworks:
    """The running stand-in."""

    answers: list[Script]
    base_url: str = ""
    requests: list[Json] = field(default_factory=list)
    """The bodies that it was sent."""
    keys: list[str] = field(default_factory=list)
    """The authorization headers that it was sent."""

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization", ""))
        script = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = script if isinstance(script, Answer) else script(body)
        await asyncio.sleep(answer.delay_s)
        media_type = "application/json"
        if body.get("stream") and answer.status == 200 and (events := _events(answer.body, body)):
            answer, media_type = replace(answer, body=events), "text/event-stream"
        if answer.cut:
            return _Cut(answer.body[: len(answer.body) // 2])
        if answer.trickle_s:
            drops = _trickle(answer)
            return StreamingResponse(drops, answer.status, answer.headers, media_type)
        return Response(answer.body, answer.status, answer.headers, media_type)

    def tools_offered(self) -> list[str]:
        """The names of the tools in the last request."""
        return [tool["function"]["name"] for tool in self.requests[-1]["tools"]]


@contextmanager
def fireworks(*answers: Script) -> Iterator[Fireworks]:
    """A stand-in on a free port, with a thread and a loop of its own, while the block runs."""
    stand_in = Fireworks(list(answers))
    app = Starlette(routes=[Route(PATH, stand_in.chat, methods=["POST"])])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        stand_in.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/inference"
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        started = threading.Event()
        server = _Server(config, started)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert started.wait(10), "the stand-in did not start"
        try:
            yield stand_in
        finally:
            server.should_exit = True
            server.force_exit = True
            thread.join(10)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


class _Cut(Response):
    """Fewer bytes than were announced: uvicorn then drops the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        length = str(2 * len(self.body) + 2).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})


async def _trickle(answer: Answer) -> AsyncIterator[bytes]:
    for byte in answer.body:
        yield bytes([byte])
        await asyncio.sleep(answer.trickle_s)


def _events(body: bytes, request: Json) -> bytes:
    """A completion as the events of a stream; nothing for a body that is none."""
    try:
        whole = json.loads(body)
        [choice] = whole["choices"]
        message = choice["message"]
    except (ValueError, KeyError, TypeError):
        return b""
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _pieces(message.get("content") or "")]
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        begun = {"name": function["name"], "arguments": ""}
        deltas.append({"tool_calls": [{**call, "index": index, "function": begun}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _pieces(function["arguments"])
        ]
    frame = {k: whole.get(k) for k in ("id", "created", "model")}
    frame["object"] = "chat.completion.chunk"
    chunks = [{**frame, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    chunks.append({**frame, "choices": [end]})
    if (request.get("stream_options") or {}).get("include_usage") and "usage" in whole:
        chunks.append({**frame, "choices": [], "usage": whole["usage"]})
    told = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*told, "data: [DONE]\n\n"]).encode()


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
