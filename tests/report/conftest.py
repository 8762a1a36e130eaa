"""Makes the runs that the tests of this room share importable from the folders below it."""
