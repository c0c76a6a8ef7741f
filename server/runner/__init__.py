"""Ticks: one of them, and who runs those that are due, in this process or over a queue."""
