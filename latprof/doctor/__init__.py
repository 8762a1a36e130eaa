"""What this machine can measure: the instrument against a responder of its own on loopback, and the limits that a run will meet."""
