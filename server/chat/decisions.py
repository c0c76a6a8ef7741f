"""How a decision came about, in lines for a person: the model's calls, or why the ranking decided.

Read from the data of an `agent_reasoning` entry, by the pages, `status` and `audit` alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.journal import NoteType

DECISIONS: Final = frozenset({"rent", "wait", "abort"})
"""The calls that are the decision itself: those of planner/answers.py, which takes long to load."""
MOST_LOOK_UPS: Final = 8


def how_decided(kind: str, data: Mapping[str, Any]) -> list[str]:
    """kind: the entry's type. Empty for one that tells of no decision, and where the ranking was
    chosen to decide.
    """
    if kind != NoteType.AGENT_REASONING or "planner" not in data:
        return []
    lines = []
    if why := data.get("fallbackReason"):
        role = "the ranking, as a fallback" if data.get("model") else "the ranking"
        lines.append(f"Decided by {role}: {why}")
    if model := data.get("model"):
        calls, tokens = _count(data, "modelCalls"), _count(data, "tokens")
        lines.append(f"Model {model}: {_many(calls, 'call')}, {_many(tokens, 'token')}")
    look_ups = [_look_up(call) for call in _calls(data)]
    lines += [f"Looked up {look_up}" for look_up in look_ups[:MOST_LOOK_UPS] if look_up]
    if len(look_ups) > MOST_LOOK_UPS:
        lines.append(f"… and {len(look_ups) - MOST_LOOK_UPS} more")
    return lines


def model_use(calls: int, tokens_in: int, tokens_out: int, cost: str = "") -> str:
    """What a run's model calls used; empty where there were none."""
    if not calls:
        return ""
    used = f"{_many(calls, 'model call')}, {tokens_in:,} tokens in, {tokens_out:,} out"
    return f"{used}, {cost}" if cost else used


def _calls(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The look-ups, without the decision's own call, which is told as the decision."""
    made = data.get("toolCalls")
    found = made if isinstance(made, list) else []
    calls = [call for call in found if isinstance(call, Mapping)]
    return [call for call in calls if call.get("name") not in DECISIONS]


def _look_up(call: Mapping[str, Any]) -> str:
    return f"{call.get('name', '')} {call.get('args', '')}".strip()


def _count(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
