"""Floor 5: every way in."""
