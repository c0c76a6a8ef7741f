"""What langgraph.json names. LangGraph loads this file by its path, once for each of the four."""

from __future__ import annotations

from server.studio.door import app, auth
from server.studio.graph import checkpointer, graph

__all__ = ["app", "auth", "checkpointer", "graph"]
