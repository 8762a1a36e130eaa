"""When it should go: arrival processes turn a workload into intended starts."""
