"""Why a run might not be trusted: what is looked at, and the doubts that come of it."""
