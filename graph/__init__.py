"""Floor 4: the LangGraph state machine, and what it is wired to."""
