"""Floor 2: MongoDB. Every write that matters is a compare-and-set on one document."""
