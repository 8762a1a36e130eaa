"""The stack as pure state machines: no clock, no socket, no await."""
