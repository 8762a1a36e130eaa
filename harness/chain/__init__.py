"""The real chain on loopback: HAProxy, Envoy, LiteLLM, a pass-through that tells llama.cpp's timings, and llama.cpp."""
