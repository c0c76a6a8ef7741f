"""The chat model of Fireworks, with answers that are bounded before a library reads them.

Slow to import: only where a model is used. It does not stream: what LangChain makes of a stream
that breaks off in the middle of a call's arguments is a call with fewer of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fireworks import AsyncFireworks
from langchain_fireworks import ChatFireworks
from pydantic import PrivateAttr, SecretStr

from tools.wire.bounded_client import BoundedClient
from tools.wire.clients import direct, tls
from tools.wire.untrusted import Unreadable, parse_object

MOST_ANSWER_BYTES: Final = 256 * 1024
MOST_ANSWER_TOKENS: Final = 2_000


class BoundedFireworks(ChatFireworks):
    """`ChatFireworks` over a BoundedClient, which `aclose` closes."""

    _http: BoundedClient | None = PrivateAttr(default=None)

    async def aclose(self) -> None:
        await super().aclose()
        if self._http is not None:
            await self._http.aclose()

    def close(self) -> None:
        """There is no synchronous client."""


def open_fireworks(
    name: str, key: SecretStr, base_url: str | None, timeout_s: float
) -> BoundedFireworks:
    """The model `name`. Close it with `aclose`. Nothing is retried: its caller has a fallback."""
    http = BoundedClient(MOST_ANSWER_BYTES, refuse_malformed_calls, mounts=direct(), verify=tls())
    client: Any = AsyncFireworks(
        api_key=key.get_secret_value(),
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        http_client=http,
    ).chat.completions
    model = BoundedFireworks(
        model_name=name,
        api_key=key,
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        temperature=0,
        max_tokens=MOST_ANSWER_TOKENS,
        async_client=client,
        client=client,  # else a synchronous one is opened, which nobody calls
    )
    model._http = http
    return model


def refuse_malformed_calls(answer: Mapping[str, object]) -> None:
    """Raise Unreadable unless every tool call in the answer has a JSON object as its arguments.

    They are JSON inside a string, which the check of the whole answer does not look into.
    """
    try:
        for choice in _list(answer.get("choices")):
            for call in _list((choice.get("message") or {}).get("tool_calls")):
                arguments = call["function"]["arguments"]
                if arguments:
                    parse_object(arguments.encode())
    except Unreadable:
        raise Unreadable("the arguments of its call are no JSON object") from None
    except (AttributeError, KeyError, TypeError, UnicodeEncodeError):
        raise Unreadable("its answer is not in the form of the API") from None


def _list(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return value
