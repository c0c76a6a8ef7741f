"""All attacks; importing this package fills the register."""

from __future__ import annotations

from tests.redteam.attacks import (
    approvals,
    jobs,
    market,
    model,
    people,
    secrets,
    terms,
    words,
)

__all__ = ["approvals", "jobs", "market", "model", "people", "secrets", "terms", "words"]
