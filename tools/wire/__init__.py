"""Bytes over the wire: one HTTP exchange within limits, and reading what a hostile peer sent."""
