"""Talking with the agent: what is understood, and what it answers from the ledger."""
