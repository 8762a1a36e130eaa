"""Sessions of one turn: lengths from a law or from a trace, prompts made to measure."""

from __future__ import annotations

from functools import partial

from latprof import config
from latprof.workload.draws import check_law, token_count
from latprof.workload.prompts import Prompts
from latprof.workload.sessions import Session, Turn, Workload
from latprof.workload.trace import Trace


def synthetic(laws: config.Workload, seed: int, prompts: Prompts) -> Workload:
    """Prompt and output lengths drawn from the configured laws, keyed by (seed, session).

    Raises:
        ConfigError: a law cannot be meant.
    """
    check_law(laws.prompt_tokens, "workload.prompt_tokens")
    check_law(laws.output_tokens, "workload.output_tokens")
    return Workload(partial(_drawn, laws, seed, prompts))


def replayed(trace: Trace, time_scale: float, seed: int, prompts: Prompts) -> Workload:
    """Session i is row i: its lengths, exactly, and its offset divided by ``time_scale``.

    Session numbers past the last row begin again with the first row's lengths (the text stays the session's own): the warm-up's sessions.
    """
    offsets_ns = tuple(round(offset_ns / time_scale) for offset_ns in trace.offsets_ns)
    return Workload(partial(_of_row, trace, seed, prompts), offsets_ns)


def _drawn(laws: config.Workload, seed: int, prompts: Prompts, session: int) -> Session:
    prompt_tokens = token_count(laws.prompt_tokens, seed, session, 0, "prompt_tokens")
    output_tokens = token_count(laws.output_tokens, seed, session, 0, "output_tokens")
    return _one_turn(prompts, seed, session, prompt_tokens, output_tokens)


def _of_row(trace: Trace, seed: int, prompts: Prompts, session: int) -> Session:
    row = session % len(trace.offsets_ns)
    return _one_turn(prompts, seed, session, trace.prompt_tokens[row], trace.output_tokens[row])


def _one_turn(prompts: Prompts, seed: int, session: int, prompt_tokens: int, output_tokens: int) -> Session:
    return Session(session, (Turn(prompts.text(prompt_tokens, seed, session), prompt_tokens, output_tokens),))
