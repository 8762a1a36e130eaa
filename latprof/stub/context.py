"""W3C trace context in and out, and the key of a request's random draws that rides on it.

https://www.w3.org/TR/trace-context/ ; ``tracestate: latprof=<session>.<turn>`` tells whose draws to use.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from latprof.stub.models.draws import Key

_TRACEPARENT = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")
_SESSION = re.compile(r"(?:^|,)\s*latprof=(\d{1,18})\.(\d{1,9})\s*(?:,|$)")
_SAMPLED, _RANDOM_ID = 1, 2
_ids = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Context:
    """The caller's place in a trace. Ids are lower-case hex; ``parent_id`` is empty where a trace begins here."""

    trace_id: str
    parent_id: str
    flags: int
    tracestate: str

    @property
    def sampled(self) -> bool:
        """Whether spans are wanted."""
        return bool(self.flags & _SAMPLED)

    def onward(self, span_id: str) -> dict[str, str]:
        """The headers of a call made from span ``span_id``."""
        headers = {"traceparent": f"00-{self.trace_id}-{span_id}-{self.flags:02x}"}
        if self.tracestate:
            headers["tracestate"] = self.tracestate
        return headers


def read_context(headers: Mapping[str, str]) -> Context:
    """The caller's context; a new sampled trace where there is none that is valid (its tracestate then counts for nothing)."""
    match = _TRACEPARENT.match(headers.get("traceparent", "").strip())
    if match is None or not _valid(*match.groups()):
        return Context(f"{_ids.getrandbits(128) or 1:032x}", "", _SAMPLED | _RANDOM_ID, "")
    _, trace_id, parent_id, flags, _ = match.groups()
    return Context(trace_id, parent_id, int(flags, 16) & (_SAMPLED | _RANDOM_ID), headers.get("tracestate", "").strip())


def new_span_id() -> str:
    """A random span id."""
    return f"{_ids.getrandbits(64) or 1:016x}"


def draw_key(seed: int, context: Context) -> Key:
    """Whose draws: the session and turn the caller told, else a negative session made from the trace id."""
    match = _SESSION.search(context.tracestate)
    if match is not None:
        return Key(seed, int(match[1]), int(match[2]))
    return Key(seed, -1 - (int(context.trace_id, 16) >> 65), 0)


def _valid(version: str, trace_id: str, parent_id: str, _flags: str, more: str | None) -> bool:
    # Version 00 has exactly four fields; a later one may have more.
    return version != "ff" and trace_id.strip("0") != "" and parent_id.strip("0") != "" and (more is None or version != "00")
