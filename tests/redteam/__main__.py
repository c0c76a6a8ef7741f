"""`python -m tests.redteam`: write docs/redteam.md anew, and say how many attacks there are."""

from __future__ import annotations

from tests.redteam.attack import ATTACKS
from tests.redteam.table import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
print(f"{len(ATTACKS.attacks)} attacks written to {PAGE}")
