"""Attempts and chunks as a client would leave them, for the tests of this room."""

from __future__ import annotations

import random

from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.units import NS_PER_MS


def begun(request: int, attempt: int = 0, at_ns: int | None = None) -> Attempt:
    at_ns = request * NS_PER_MS if at_ns is None else at_ns
    made = Attempt(request, request, 0, attempt, "measured", f"{request:032x}", f"{request:016x}", 256, 16, intended_ns=at_ns)
    made.ready_ns = at_ns + 80_000
    made.start_ns = at_ns + 90_000
    return made


def ended(request: int, attempt: int = 0, error_class: str = ErrorClass.NONE, at_ns: int | None = None) -> Attempt:
    made = begun(request, attempt, at_ns)
    made.first_token_ns = made.start_ns + 40 * NS_PER_MS
    made.end_ns = made.start_ns + 90 * NS_PER_MS
    made.status = 200
    made.error_class = error_class
    made.timing_headers = [("server-timing", "auth;dur=1.2"), ("server-timing", f"route;dur={request}")]
    return made


def streamed(log: ChunkLog, requests: int, chunks: int, seed: int = 1) -> None:
    """``requests`` interleaved streams of ``chunks`` chunks, with the jitter a real connection has."""
    rng = random.Random(seed)
    times = sorted(
        (int(request * 20 * NS_PER_MS + chunk * 15 * NS_PER_MS + rng.gauss(0, 400_000)), request)
        for request in range(requests)
        for chunk in range(chunks)
    )
    for at_ns, request in times:
        log.append(request, at_ns + 10**15, rng.randint(150, 260), 1)
