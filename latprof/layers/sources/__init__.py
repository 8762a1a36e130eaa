"""One file per stack: how its spans, headers and body timings become evidence."""
