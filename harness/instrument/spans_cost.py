"""V19: what asking for spans costs. Half of the requests to the stub are sampled, drawn by lot as the gaps between them are; all else is the same.

(With even gaps, turn and turn about, what the stub sends of one request would fall on the same place of a later one every time.)
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
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
SEED = 1
_GAPS = (0.4, 1.6)  # times the mean
# Of the stack nothing is drawn: the two halves then differ in nothing but the flag.
STACK = Stub.model_validate(
    {"gateway": {"safety": "5ms", "auth": "1ms"}, "router": {"route": "800us"}, "decode": {"kv_transfer": "1500us", "t1": "2ms"}}
)


class ByLot:
    """A transport that sends each session through the first of two or the second."""

    def __init__(self, first: HttpTransport, second: HttpTransport, is_first: npt.NDArray[np.bool_]) -> None:
        self._first, self._second, self._is_first = first, second, is_first

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:
        """Send it where it belongs."""
        return await (self._first if self._is_first[ask.session] else self._second).send(ask, attempt, chunks)


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
    lot = np.random.default_rng(SEED)
    is_sampled = lot.permutation(np.arange(requests) % 2 == 0)
    offsets_ns = np.cumsum(lot.uniform(*_GAPS, requests) * NS_PER_S / RATE_PER_S).astype(np.int64)
    turn = Turn("How long does it take?", 8, 4)
    phase = Phase("measured", tuple(Planned(Session(number, (turn,)), int(at_ns)) for number, at_ns in enumerate(offsets_ns)), "poisson")
    encode, ended = sampled.encoder(), list[Attempt]()
    rules = Rules("0" * 16, 1, 60 * NS_PER_S)
    await drive(phase, ByLot(sampled, unsampled, is_sampled), feed_of(phase, encode), encode, ChunkLog(), rules, on_end=ended.append)
    for transport in (sampled, unsampled):
        await transport.close()
    ttft_ms = [
        [
            (one.first_token_ns - one.intended_ns) / NS_PER_MS
            for one in ended
            if one.succeeded and is_sampled[one.session] == asks and one.session > 80
        ]
        for asks in (True, False)
    ]
    return float(np.median(ttft_ms[0])), float(np.median(ttft_ms[1]))
