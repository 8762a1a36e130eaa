"""Pure functions from observations and layers to numbers an expert can check."""
