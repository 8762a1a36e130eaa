"""The stack in a box in virtual time: the same models as the live one, on a heap of events instead of sockets and timers."""
