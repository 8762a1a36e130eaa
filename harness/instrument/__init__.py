"""How right and how cheap latprof's client is, against a server whose own send log is the truth."""
