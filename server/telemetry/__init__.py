"""The agent as it is seen from outside: logs, metrics and traces of its steps."""
