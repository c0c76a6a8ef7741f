"""LangGraph's server (`langgraph dev`, Studio) over the agent's graph, behind the API's rules."""
