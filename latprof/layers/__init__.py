"""Who owned which nanosecond: the layer vocabulary, one source per stack, and a partition that tiles each request."""
