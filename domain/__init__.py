"""Floor 1: values and rules. Pure functions, no I/O, no clock."""
