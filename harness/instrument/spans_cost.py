"""V19: what asking for spans costs. Every other request to the stub is sampled; all else is the same."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import numpy as np
import uvloop

from harness.verdict import Figure
from latprof.client.driver import Rules, drive
from latprof.client.endpoint import resolve_endpoint
from latprof.client.feed import feed_of
from latprof.client.stamps import Attempt, ChunkLog
from latprof.client.transport import Ask, HttpTransport
from latprof.config import Stub, Target
from latprof.schedule.plan import Phase, Planned
from latprof.spans.receiver import Receiver
from latprof.stub.stack import start
from latprof.units import NS_PER_MS, NS_PER_S
from latprof.workload.sessions import Session, Turn

RATE_PER_S = 40.0
# Nothing is drawn: the two halves then differ in nothing but the flag.
STACK = Stub.model_validate(
    {"gateway": {"safety": "5ms", "auth": "1ms"}, "router": {"route": "800us"}, "decode": {"kv_transfer": "1500us", "t1": "2ms"}}
)


class Alternating:
    """A transport that sends even sessions through one transport and odd ones through the other."""

    def __init__(self, even: HttpTransport, odd: HttpTransport) -> None:
        self._both = even, odd

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:
        """Send it where it belongs."""
        return await self._both[ask.session % 2].send(ask, attempt, chunks)


def figures(requests: int) -> list[Figure]:
    """TTFT p50 with spans less TTFT p50 without, and what is asked of it: below 1 %, or below 0.5 ms."""
    with_ms, without_ms = uvloop.run(_measure(requests))
    most_ms = max(0.5, 0.01 * without_ms)
    return [
        Figure("TTFT p50 without spans", without_ms),
        Figure("TTFT p50 with spans, more", with_ms - without_ms, low=-most_ms, high=most_ms),
    ]


async def _measure(requests: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="latprof-spans-") as folder:
        receiver = await asyncio.to_thread(
            Receiver.start, Path(folder), "0" * 16, host="127.0.0.1", grpc_port=0, http_port=0, tolerate_taken=[]
        )
        try:
            async with await start(STACK, f"http://127.0.0.1:{receiver.http_port}") as stub:
                return await _drive(stub.url, requests)
        finally:
            await asyncio.to_thread(receiver.stop)


async def _drive(url: str, requests: int) -> tuple[float, float]:
    sampled, unsampled = (HttpTransport(resolve_endpoint(Target(sampled=asks), url, os.environ)) for asks in (True, False))
    gap_ns = round(NS_PER_S / RATE_PER_S)
    turn = Turn("How long does it take?", 8, 4)
    phase = Phase("measured", tuple(Planned(Session(number, (turn,)), number * gap_ns) for number in range(requests)), "constant")
    encode, ended = sampled.encoder(), list[Attempt]()
    rules = Rules("0" * 16, 1, 60 * NS_PER_S)
    await drive(phase, Alternating(sampled, unsampled), feed_of(phase, encode), encode, ChunkLog(), rules, on_end=ended.append)
    for transport in (sampled, unsampled):
        await transport.close()
    ttft_ms = [
        [
            (one.first_token_ns - one.intended_ns) / NS_PER_MS
            for one in ended
            if one.succeeded and one.session % 2 == odd and one.session > 80
        ]
        for odd in (0, 1)
    ]
    return float(np.median(ttft_ms[0])), float(np.median(ttft_ms[1]))
