"""latprof: where the time to first token goes, layer by layer."""
