"""A run for other tools: traces to look at, stacks for flame graphs, spans and metrics for a collector."""
