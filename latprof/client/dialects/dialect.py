"""What a dialect is: two pure functions and a path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

from latprof.client.sse import SseEvent
from latprof.client.stamps import Channel
from latprof.units import MISSING_NS
from latprof.workload.sessions import Message


class Usage(NamedTuple):
    """Token counts as the server told them; MISSING_NS where it did not."""

    prompt_tokens: int = MISSING_NS
    output_tokens: int = MISSING_NS
    reasoning_tokens: int = MISSING_NS
    cached_tokens: int = MISSING_NS

    def with_later(self, later: Usage) -> Usage:
        """What both say together. Counts only grow in a stream, and a part that the later one leaves out (MISSING_NS, the least) stays."""
        return Usage(*map(max, self, later))


class Reading(NamedTuple):
    """What one event says. A tuple, because one is made for every chunk of every stream.

    ``channel`` is where its first token belongs (NONE: it bears none), ``answers`` whether any token of it is content or a tool call.
    ``text`` is its answer text, channels other than content left out. ``finished``: the answer is over; ``done``: the stream is. ``error`` and ``malformed`` hold the text of what is wrong.
    """

    channel: Channel = Channel.NONE
    answers: bool = False
    text: str = ""
    finished: bool = False
    done: bool = False
    error: str = ""
    malformed: str = ""
    usage: Usage | None = None
    body_timings: str = ""
    response_id: str = ""


NOTHING: Final = Reading()
DONE: Final = Reading(done=True)
"""The stream's end mark, and nothing else."""

reading_of: Callable[[Iterable[Any]], Reading] = partial(tuple.__new__, Reading)
"""A reading of all its fields, made in C: for what is read most often, the constructor of a NamedTuple is a third of the work."""


class Encode(Protocol):
    """What the body of a request says."""

    def __call__(self, conversation: Sequence[Message], output_tokens: int, *, model: str, include_usage: bool) -> dict[str, Any]:
        """The body as JSON values, every message's text wrapped in `latprof.client.body.Said`."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API's way to ask and to stream. ``read`` never raises, whatever the server sent.

    ``headers`` go with every request, lower-case names; ``key_header`` is the header that takes the key, with what stands before it there.
    """

    name: str
    endpoint: str
    encode: Encode
    read: Callable[[SseEvent], Reading]
    headers: tuple[tuple[str, str], ...] = ()
    key_header: tuple[str, str] = ("authorization", "Bearer ")
    over: Literal["http", "websocket"] = "http"
