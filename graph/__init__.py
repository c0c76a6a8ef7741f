"""Floor 4: the LangGraph state machine, and nothing else."""
