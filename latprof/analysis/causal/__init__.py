"""Delays put in on purpose, and what came out of them."""
