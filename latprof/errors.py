"""What can go wrong for a user, and the exit code each kind of it has.

A message says what was got, what was wanted and what to do next, and names the configuration path or flag.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    DONE = 0
    GATE_FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    UNTRUSTED = 4
    INTERNAL = 5
    INTERRUPTED = 130


class LatprofError(Exception):
    """An error whose text is meant for the user; printed without a traceback."""

    exit_code: Exit = Exit.INTERNAL


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file could not be read, in words; the path stands beside it already."""
    return f"not UTF-8 text, at byte {error.start}" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)


class UsageError(LatprofError):
    """A flag, a file, a port or an address cannot be used as given. Nothing was sent."""

    exit_code = Exit.USAGE


class ConfigError(UsageError):
    """The configuration says something that cannot be meant; the text names the path in it."""


class RunFailedError(LatprofError):
    """The run cannot be trusted, or not one request of it succeeded."""

    exit_code = Exit.UNTRUSTED


class InconclusiveError(LatprofError):
    """What is there does not suffice for an answer; the text says what is missing. Nothing was wrong with the question."""

    exit_code = Exit.INCONCLUSIVE
