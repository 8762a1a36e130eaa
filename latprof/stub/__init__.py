"""The serving stack in a box: pure models, and live servers that play them over real HTTP."""
