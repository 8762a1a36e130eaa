"""The command line: one file for each command, which reads its flags; `latprof.commands` does the work."""

from __future__ import annotations

from latprof.cli.program import app, main

__all__ = ["app", "main"]
