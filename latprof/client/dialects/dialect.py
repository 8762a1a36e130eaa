"""What a dialect is: two pure functions and a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.units import MISSING_NS
from latprof.workload.sessions import Turn


class Usage(NamedTuple):
    """Token counts as the server told them; MISSING_NS where it did not."""

    prompt_tokens: int = MISSING_NS
    output_tokens: int = MISSING_NS
    reasoning_tokens: int = MISSING_NS
    cached_tokens: int = MISSING_NS


class Reading(NamedTuple):
    """What one event says. A tuple, because one is made for every chunk of every stream.

    ``channel`` is where its first token belongs (NONE: it bears none), ``answers`` whether any token of it is content or a tool call.
    ``finished``: the answer is over; ``done``: the stream is. ``error`` and ``malformed`` hold the text of what is wrong.
    """

    channel: Channel = Channel.NONE
    answers: bool = False
    finished: bool = False
    done: bool = False
    error: str = ""
    malformed: str = ""
    usage: Usage | None = None
    body_timings: str = ""
    response_id: str = ""


class Encode(Protocol):
    """Makes the request body of a turn."""

    def __call__(self, turn: Turn, *, model: str, extra_body: Mapping[str, Any], include_usage: bool) -> bytes:
        """The body, ready for the wire. ``extra_body`` is laid over it; a null there takes a key away."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API's way to ask and to stream. ``read`` never raises, whatever the server sent."""

    name: str
    endpoint: str
    encode: Encode
    read: Callable[[SseEvent], Reading]
