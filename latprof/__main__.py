"""``python -m latprof``."""

from latprof.cli import main

main()
