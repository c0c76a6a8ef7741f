"""A GPU vendor, its x402 facilitator and its local chain, for tests and first runs.

A peer that the agent reaches over HTTP alone: it imports none of the agent's packages.
"""
