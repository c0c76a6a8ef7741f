"""Notes what a waiting run finds each time it looks for offers, if it has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256

from domain.journal import Note
from graph.context import TickContext
from graph.state import AgentState


def note_if_changed(
    state: AgentState, context: TickContext, place: str, notes: Sequence[Note]
) -> dict[str, str]:
    """Note `notes`, unless they are the same as the last from `place` for this slot.

    Returns the state's `found`, brought up to date; unchanged without notes.
    """
    found = state.get("found") or {}
    if not notes:
        return found
    said = [[note.type, note.content, dict(note.data)] for note in notes]
    words = json.dumps([context.run.next_slot, said], sort_keys=True, default=str)
    digest = sha256(words.encode()).hexdigest()[:16]
    if found.get(place) != digest:
        for note in notes:
            context.observe(note)
    return {**found, place: digest}
