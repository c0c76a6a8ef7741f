"""From what a person says to a job: read by rules, or by a model that the rules check."""
