"""Server spans: OTLP in over HTTP and gRPC, joined by trace id, their clocks tied to ours."""
