"""All attacks; importing this package fills the register."""

from __future__ import annotations

from tests.redteam.attacks import (
    approvals,
    database,
    jobs,
    market,
    model,
    people,
    secrets,
    terms,
    words,
)

__all__ = [
    "approvals",
    "database",
    "jobs",
    "market",
    "model",
    "people",
    "secrets",
    "terms",
    "words",
]
