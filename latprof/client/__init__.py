"""The only room with sockets out: sends turns, stamps every byte on arrival."""
