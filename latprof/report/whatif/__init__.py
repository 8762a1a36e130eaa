"""A what-if told: on a terminal, and as JSON."""
