"""What a checkpoint holds: the position, ids, and a trimmed conversation. Never money.

Where this and the ledger disagree after a crash, the ledger is right.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from langchain_core.messages import AnyMessage, RemoveMessage
from langgraph.graph import MessagesState
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages

from graph.persistence.window import window

FORGET: Final = RemoveMessage(id=REMOVE_ALL_MESSAGES)
"""Put into `planning`, it ends the conversation about a choice."""


class AgentState(MessagesState, total=False):
    messages: Annotated[list[AnyMessage], window]  # type: ignore[misc]
    """The newest part of the conversation; the transcript has the whole of it."""
    run_id: str
    """The run, and the thread of its checkpoints."""
    goal: str
    """What is asked; read only where the graph itself makes the run (Studio)."""
    budget: str
    """Dollars; read only where the graph itself makes the run (Studio)."""
    phase: str
    """The node that comes next: each invocation is routed by it."""
    cancel: bool
    """True when the run is to be cancelled; set by the tick."""
    message: str
    """The answer of the last tick."""
    planning: Annotated[list[AnyMessage], add_messages]
    """The conversation with the planner's model about the present decision."""
    waits: int
    """How often in a row choose_vendor has decided to wait."""
    found: dict[str, str]
    """What each place that a waiting run comes back to found last (graph/steps/changes.py)."""
    decision: dict[str, Any] | None
    """What choose_vendor decided to rent: vendor_id, template_id, slot."""
    payment_id: str | None
    """The payment that launch delivers."""
    accepted: dict[str, Any] | None
    """A vendor's acceptance that came before any payment (a vendor billed outside x402)."""
    sends: int
    """How often launch has sent the present payment without a job to show for it."""
    stops: int
    """How often cancel has tried to stop the job at a vendor that did not confirm it."""
    asked_again: int
    """How often a question to a person was put again, because the answer was none."""
    open_slot: int | None
    """A slot whose outcome is unknown, to be used for another vendor."""
    failure: dict[str, Any] | None
    """What recover books: vendor_id, why, job_id."""
