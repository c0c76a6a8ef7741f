"""A stand-in for Fireworks: its chat-completions wire format, answers scripted by the test.

    with fireworks(calls(("rent", {...}))) as model_server:
        ChatFireworks(base_url=model_server.base_url, ...)

Each scripted answer is given once, in order; the last one again and again.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Json = dict[str, Any]
PATH: Final = "/inference/v1/chat/completions"
USAGE: Final = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, after `delay_s` seconds."""

    body: bytes
    status: int = 200
    delay_s: float = 0.0


Script = Answer | Callable[[Json], Answer]
"""An answer, or what makes one from the request's body."""


def says(content: str) -> Answer:
    """The model answers with words, and calls nothing."""
    return _completion({"role": "assistant", "content": content}, "stop")


def calls(*tools: tuple[str, Json | str]) -> Answer:
    """The model calls these tools, with arguments as JSON or as that very text."""
    called = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            },
        }
        for index, (name, arguments) in enumerate(tools)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": called}
    return _completion(message, "tool_calls")


def refuses(status: int, message: str = "no") -> Answer:
    """An HTTP error in the form of the API."""
    error = {"error": {"message": message, "type": "error", "code": status}}
    return Answer(json.dumps(error).encode(), status)


def garbage() -> Answer:
    return Answer(b"<html>busy</html>")


def slowly(answer: Answer, delay_s: float) -> Answer:
    return Answer(answer.body, answer.status, delay_s)


def _completion(message: Json, finish_reason: str) -> Answer:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stand-in",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": USAGE,
    }
    return Answer(json.dumps(body).encode())


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
        if body.get("stream"):
            return JSONResponse({"error": {"message": "the stand-in does not stream"}}, 400)
        return Response(answer.body, answer.status, media_type="application/json")

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
