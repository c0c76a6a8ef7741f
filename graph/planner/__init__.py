"""Who decides what to rent: the ranking, or a model that calls tools; and what a model is told."""
