"""What a workload is, in numbers: from outlines alone, but for recorded texts, which have to be counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latprof.units import NS_PER_S
from latprof.workload.outline import Made, Outline, Told, TurnOutline
from latprof.workload.sessions import NO_CONTEXT, Tool

CountTokens = Callable[[str], int]

PERCENTILES = (50, 90, 99, 100)
# A whole piece of text that is shared or not; a prefix cache's block is no longer than this.
_CHUNK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Moments:
    """A sample in numbers: mean, standard deviation over mean, and the `PERCENTILES` (linearly interpolated)."""

    count: int
    mean: float
    cv: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """A workload in numbers. Tokens are those of the text, without any chat template.

    ``prompt_tokens`` is all that a request sends, context included; ``message_tokens`` what is new in it. ``cached_share`` is the share of prompt
    tokens that a prefix cache of no bounds would know from the prompts sent before (answers are not counted in: a planned one is not what the
    model said). ``begun_share`` is the share of requests that continue none, ``branching_share`` that of sessions with steps side by side.
    Think times and tools are as the workload has them, in s. ``rate_per_s`` and ``gap_cv`` tell of session starts; None where the workload has no times.
    """

    sessions: int
    requests: int
    tools: int
    turns_per_session: Moments
    prompt_tokens: Moments
    message_tokens: Moments
    output_tokens: Moments
    cached_share: float
    begun_share: float
    branching_share: float
    tool_s: Moments | None
    think_s: Moments | None
    lasts_s: float | None
    rate_per_s: float | None
    gap_cv: float | None


@dataclass(frozen=True, slots=True)
class _Sent:
    """One request: its whole prompt in chunks that are equal where their text is."""

    chunks: tuple[tuple[object, int], ...]
    message_tokens: int
    output_tokens: int
    begins: bool


def figures(sessions: Sequence[Outline], count_tokens: CountTokens, *, is_timed: bool) -> Figures:
    """The figures of ``sessions`` (at least one), their requests taken in order of their sessions' starts, then of their steps."""
    sent = [request for number, session in enumerate(sessions) for request in _requests(number, session, count_tokens)]
    prompt_tokens = [sum(length for _, length in request.chunks) for request in sent]
    thinks_s = [step.think_ns / NS_PER_S for session in sessions for step in session.turns if step.think_ns]
    tools_s = [step.takes_ns / NS_PER_S for session in sessions for step in session.steps if isinstance(step, Tool)]
    offsets_s = np.array([session.offset_ns for session in sessions]) / NS_PER_S if is_timed else np.array([])
    gaps_s = np.diff(offsets_s)
    is_spread = len(gaps_s) > 0 and bool(offsets_s[-1] > 0)
    return Figures(
        sessions=len(sessions),
        requests=len(sent),
        tools=len(tools_s),
        turns_per_session=_moments([len(session.turns) for session in sessions]),
        prompt_tokens=_moments(prompt_tokens),
        message_tokens=_moments([request.message_tokens for request in sent]),
        output_tokens=_moments([request.output_tokens for request in sent]),
        cached_share=_cached_tokens(sent) / sum(prompt_tokens),
        begun_share=sum(request.begins for request in sent) / len(sent),
        branching_share=sum(map(_branches, sessions)) / len(sessions),
        tool_s=_moments(tools_s) if tools_s else None,
        think_s=_moments(thinks_s) if thinks_s else None,
        lasts_s=float(offsets_s[-1]) if len(offsets_s) else None,
        rate_per_s=len(gaps_s) / float(offsets_s[-1]) if is_spread else None,
        gap_cv=float(gaps_s.std() / gaps_s.mean()) if is_spread and len(gaps_s) > 1 else None,
    )


def _moments(sample: Sequence[float]) -> Moments:
    values: npt.NDArray[np.float64] = np.array(sample, np.float64)
    mean = float(values.mean())
    percentiles = tuple(float(value) for value in np.percentile(values, PERCENTILES))
    return Moments(len(values), mean, float(values.std()) / mean if mean else 0.0, percentiles)


def _cached_tokens(sent: Sequence[_Sent]) -> int:
    """Tokens of the longest beginning of each prompt that an earlier prompt had as well; chunk by chunk."""
    seen: set[int] = set()
    cached = 0
    for request in sent:
        prefix = 0
        is_known = True
        for chunk, length in request.chunks:
            prefix = hash((prefix, chunk))
            is_known = is_known and prefix in seen
            seen.add(prefix)
            cached += length * is_known
    return cached


def _requests(number: int, session: Outline, count_tokens: CountTokens) -> Iterator[_Sent]:
    """The requests of a session; each one's chunks are those of the turn it continues, the answer to that, and its own."""
    prompts: dict[int, tuple[tuple[object, int], ...]] = {}
    answers: dict[int, tuple[tuple[object, int], ...]] = {}
    for index, step in enumerate(session.steps):
        if isinstance(step, Tool):
            continue
        message = (*_chunks(step.system, (number, index, "system"), count_tokens), *_chunks(step.prompt, (number, index), count_tokens))
        context = () if step.context == NO_CONTEXT else (*prompts[step.context], *answers[step.context])
        prompts[index] = (*context, *message)
        output_tokens = _output_tokens(step, count_tokens)
        answer = Made(output_tokens) if step.answer is None else step.answer
        answers[index] = tuple(_chunks(answer, (number, index, "answer"), count_tokens))
        yield _Sent(prompts[index], sum(length for _, length in message), output_tokens, begins=not context)


def _output_tokens(step: TurnOutline, count_tokens: CountTokens) -> int:
    if step.output_tokens is not None:
        return step.output_tokens
    return count_tokens(step.answer) if isinstance(step.answer, str) else 1


def _chunks(told: Told | None, owner: object, count_tokens: CountTokens) -> Iterator[tuple[object, int]]:
    """A text in chunks: recorded text is itself, blocks are their ids, what is made for one turn is its own."""
    if told is None:
        return
    if isinstance(told, str):
        yield told, count_tokens(told)
        return
    left = told.shared_tokens
    for block in told.blocks:
        of_block = min(left, told.block_tokens)
        for begin in range(0, of_block, _CHUNK_TOKENS):
            length = min(_CHUNK_TOKENS, of_block - begin)
            # A block that its prompt's end cuts short keeps its name: nothing follows it.
            yield (block, begin, min(_CHUNK_TOKENS, told.block_tokens - begin)), length
        left -= of_block
        if not left:
            break
    if told.tokens > told.shared_tokens:
        yield owner, told.tokens - told.shared_tokens


def _branches(session: Outline) -> bool:
    """Whether some step is followed by two others, or waits for two."""
    followed: list[int] = []
    for step in session.steps:
        if len(step.after) > 1:
            return True
        followed += step.after
    return len(followed) != len(set(followed))
