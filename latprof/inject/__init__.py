"""A proxy hop that delays requests on purpose: the causal check's hand on the stack."""
