"""How many tokens a chat request has at most, whatever the model's tokenizer.

There is no tokenizer to ask without the model, so each text is counted from above. The tokenizers
of today's models are byte-level BPE: they cut text into words, digits and signs, and merge bytes
within each; none makes more tokens of a piece than it has bytes. So every byte counts as one, but
for the plain English words that stand in our own source of prompts and tools: each of those
counts one token for each three letters, where most are one token whole.
"""

from __future__ import annotations

import inspect
import json
import re
from functools import cache
from typing import Any, Final

from graph.planner import answers, prompts
from tools import payment_tools, vendor_tools

FRAME: Final = 16
"""Tokens around each message and each tool: role, marks, separators."""
_PIECE: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\s+|.", re.DOTALL)


def tokens_at_most(request: dict[str, Any]) -> int:
    messages, tools = request["messages"], request.get("tools") or []
    known = _known()
    texts = [json.dumps(tools)]
    for message in messages:
        texts += [message.get("content") or "", json.dumps(message.get("tool_calls") or "")]
    return sum(_count(text, known) for text in texts) + FRAME * (len(messages) + len(tools))


@cache
def _known() -> frozenset[str]:
    source = "".join(map(inspect.getsource, (prompts, answers, vendor_tools, payment_tools)))
    return frozenset(piece.lower() for piece in _PIECE.findall(source) if piece.isalpha())


def _count(text: str, known: frozenset[str]) -> int:
    return sum(
        -(-len(piece) // 3) if piece.lower() in known else len(piece.encode())
        for piece in _PIECE.findall(text)
    )
