"""What the agent does in each phase of a run, in a person's words."""

from __future__ import annotations

from typing import Final

DOES: Final = {
    "intake": "reading the goal",
    "assess_budget": "looking at the market",
    "choose_vendor": "choosing a vendor",
    "tools": "choosing a vendor",
    "approve": "waiting for you",
    "pay": "paying",
    "launch": "launching the job",
    "monitor": "following its job",
    "recover": "looking for another vendor",
    "cancel": "cancelling",
}
