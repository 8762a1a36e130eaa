"""The stack in a box as pure state machines: no clock, no socket, no await. A driver owns the time, live or virtual."""
