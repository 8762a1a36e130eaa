"""Several runs together: replications, intervals, comparisons, and the verdicts of a gate."""
