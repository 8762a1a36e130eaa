"""Spans of traces that are not the run's own, and which of them may yet be about it: those whose trace tells of an answer by its id.

A connection of many turns, or a hop that does not go on with the incoming trace context, puts spans under traces of its own. Many servers write
the id of the answer into an attribute; the client has read the same id from the stream. Nothing is decided here: whole traces are kept, and
`latprof.layers.joining` says whose they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from latprof.client.redact import ERROR_TEXT_LENGTH
from latprof.spans.screen import screened
from latprof.spans.span import Scalar, Span

ID_KEYS: Final = ("gen_ai.response.id", "gen_ai.request.id", "llm.response.id", "gen_ai.response_id", "rid")
"""OpenTelemetry's name and LiteLLM's; vLLM's; Arize's; Langtrace's; SGLang's, whose answers carry its request id."""

# A completion of several prompts is several requests to vLLM's engine: cmpl-abc-0 is the first of cmpl-abc.
_NUMBERED = re.compile(r"-\d{1,4}\Z")
_SHORTEST_ID = 6
# Of traces that have not told of an answer yet; 5 s of a thousand spans a second, which is what a batching exporter may hold back.
_MOST_HELD = 5_000


def ids_told(attributes: Mapping[str, Scalar]) -> Iterator[tuple[str, str]]:
    """``(key, id)`` for each id of an answer that a span's attributes hold, cut as the client cuts what it has read."""
    for key in ID_KEYS:
        value = attributes.get(key)
        if isinstance(value, str) and len(value) >= _SHORTEST_ID:
            yield key, value[:ERROR_TEXT_LENGTH]


def spellings(told: str) -> tuple[str, ...]:
    """What the client may have read where a span tells ``told``, the likeliest first."""
    whole = _NUMBERED.sub("", told)
    return (told, whole) if whole != told and len(whole) >= _SHORTEST_ID else (told,)


class Others:
    """Holds spans back until their trace tells of an answer; of those that never do, the oldest trace goes first."""

    def __init__(self, most_held: int = _MOST_HELD) -> None:
        self._most = most_held
        self._held: dict[str, list[Span]] = {}
        self._number = 0
        self._telling: set[str] = set()
        self._told: set[str] = set()
        self._awaited: set[str] = set()

    @property
    def missing(self) -> int:
        """How many of the awaited answers no span has told of."""
        return len(self._awaited)

    def expect(self, answers: Iterable[str]) -> None:
        """These are the ids of answers that came. Adds to what was expected before."""
        self._awaited.update(set(answers) - self._told)

    def take(self, spans: Sequence[Span]) -> list[Span]:
        """Those to be kept for good now that ``spans`` have come: of traces that tell, earlier ones among them. Without credentials."""
        for span in spans:
            told = [spelled for _, told in ids_told(span.attributes) for spelled in spellings(told)]
            if told:
                self._telling.add(span.trace_id)
                self._told.update(told)
                self._awaited.difference_update(told)
        kept: list[Span] = []
        for trace_id in dict.fromkeys(span.trace_id for span in spans):
            if trace_id in self._telling:
                earlier = self._held.pop(trace_id, [])
                self._number -= len(earlier)
                kept += earlier
        for span in spans:
            if span.trace_id in self._telling:
                kept.append(screened(span))
            else:
                self._held.setdefault(span.trace_id, []).append(screened(span))
                self._number += 1
        while self._number > self._most:
            self._number -= len(self._held.pop(next(iter(self._held))))
        return kept
