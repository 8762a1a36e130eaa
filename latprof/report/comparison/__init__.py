"""A comparison told: on a terminal, and as JSON."""
