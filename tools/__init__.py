"""Floor 3: what the agent can do to the world."""
