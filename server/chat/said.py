"""What the agent says in a chat, piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["words", "action", "question", "run", "error"]


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that the agent says or does. data: of `run`, {"runId": …}."""

    kind: Kind
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
