"""One request before the run: finds out what would make every row fail, and what this server does not take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus

from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.client.targets import SoleTransport
from latprof.client.trace_ids import trace_ids
from latprof.errors import RunFailedError, UsageError
from latprof.units import MISSING_NS
from latprof.workload.sessions import Session

_REFUSED = frozenset({400, 422})


@dataclass(frozen=True, slots=True)
class Preflight:
    """What one request showed. ``include_usage`` goes to the encoder for the run; ``findings`` are sentences for the user."""

    include_usage: bool
    usage_came: bool
    findings: tuple[str, ...]
    attempt: Attempt


async def preflight(transport: SoleTransport, session: Session, *, run_id: str, seed: int) -> Preflight:
    """Send the first turn of ``session``, unrecorded; a second time without ``stream_options`` if it was refused.

    Any other failure is a finding: the run goes on, and its rows tell.

    Raises:
        UsageError: no connection to the address is possible.
        RunFailedError: the server refuses the key, or knows neither path nor model.
    """
    attempt = await _try(transport, session, include_usage=True, run_id=run_id, seed=seed)
    include_usage = True
    findings: list[str] = []
    if attempt.status in _REFUSED:
        without = await _try(transport, session, include_usage=False, run_id=run_id, seed=seed)
        if without.succeeded or "stream_options" in attempt.error_text:
            findings.append(f"the server refuses stream_options (HTTP {attempt.status}); left out for this run")
            include_usage, attempt = False, without
    _raise_if_hopeless(transport, attempt)
    usage_came = attempt.tokens_source == "usage"
    if not attempt.succeeded:
        findings.append(f"the first request, before the load, failed ({_failure(attempt)}): {attempt.error_text}; the run goes on")
    elif not usage_came:
        findings.append("the server tells no usage; output tokens are counted as token-bearing chunks")
    return Preflight(include_usage, usage_came, tuple(findings), attempt)


def _failure(attempt: Attempt) -> str:
    """The class of the failure, and the status where the server gave one that says more."""
    return f"{attempt.error_class}, HTTP {attempt.status}" if attempt.status >= HTTPStatus.BAD_REQUEST else str(attempt.error_class)


async def _try(transport: SoleTransport, session: Session, *, include_usage: bool, run_id: str, seed: int) -> Attempt:
    turn = session.turns[0]
    # Requests of a run count from 0 up; these two have numbers of their own.
    request = -1 if include_usage else -2
    trace_id, span_id = trace_ids(run_id, seed, session.session, 0, 0 if include_usage else 1)
    now_ns = time.monotonic_ns()
    attempt = Attempt(
        request=request,
        session=session.session,
        turn=0,
        attempt=0,
        phase="preflight",
        trace_id=trace_id,
        span_id=span_id,
        asked_prompt_tokens=turn.prompt_tokens,
        asked_output_tokens=turn.output_tokens,
        intended_ns=now_ns,
        ready_ns=now_ns,
        start_ns=now_ns,
    )
    await transport.send(transport.encoder(include_usage=include_usage)(session, 0), attempt, ChunkLog())
    return attempt


def _raise_if_hopeless(transport: SoleTransport, attempt: Attempt) -> None:
    endpoint = transport.endpoint
    shown = transport.redact(str(endpoint.address))
    unconnected = attempt.error_class == ErrorClass.TIMEOUT and attempt.send_ns == MISSING_NS
    if unconnected or attempt.error_class in {ErrorClass.DNS, ErrorClass.CONNECT, ErrorClass.TLS}:
        raise UsageError(f"{shown} cannot be reached: {attempt.error_text}; check --url, and that the server is up")
    if attempt.error_class == ErrorClass.AUTH:
        key = "no key was sent: name the variable that holds it with --api-key-env NAME"
        if endpoint.key_variable:
            key = f"the key came from {endpoint.key_variable} (--api-key-env): check its value"
        elif endpoint.sends_authorization:
            key = "the key came from --header: check its value"
        raise RunFailedError(f"{shown} answered {attempt.status}; {key}. It said: {attempt.error_text}")
    if attempt.error_class == ErrorClass.NOT_FOUND:
        raise RunFailedError(
            f"{shown} answered 404 for model {endpoint.model!r}; check --model, and the path of --url. It said: {attempt.error_text}"
        )
