"""A sweep told: its values, and what a terminal and a JSON file get of them."""
