"""What good is, of a run in which nobody says so."""

from __future__ import annotations

from typing import Final

from latprof.config import Config

# What a person who waits for an answer hardly notices; the quickstart shows goodput with it.
_OF_THE_STUB: Final = {"ttft": 200.0, "tpot": 50.0}


def judged(config: Config) -> Config:
    """``config`` with objectives where it has none and measures the stack in a box. Nobody's endpoint is judged unasked."""
    return config.model_copy(update={"goodput": _OF_THE_STUB}) if config.uses_stub and not config.goodput else config
