"""One client in a process of its own: ``python -m harness.instrument.client JSON``. It prints a line of JSON about itself at the end.

latprof    the client as a worker runs it: driver, transport, recorder, all recording on
aiohttp    what most generators do: a session, lines iterated, JSON parsed, stamps in lists
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import pickle
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from latprof.worker import go_without_pandas, peak_bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """What this client is to do. ``streams``: as many requests in flight, on average (open loop) or always (closed loop)."""

    client: str
    url: str
    folder: str
    streams: int
    seconds: float
    ttft_us: int = 200_000
    itl_us: int = 5_000
    tokens: int = 128
    closed: int = 0
    """Not zero: a closed loop of so many requests."""
    endpoint: str = ""
    """latprof's own, pickled and in base64: resolved where the library that validates a configuration is at hand."""
    bare: bool = False
    rate_per_s: float = 0.0
    """Not zero: an open loop of this rate, however long the answers take."""
    block_ms: float = 0.0
    core: int | None = None
    first_session: int = 0
    share: int = 1
    """Of so many clients this is one: it takes every share-th start."""

    @property
    def query(self) -> str:
        """The plan of an answer, as the server reads it."""
        return f"?ttft={self.ttft_us}&itl={self.itl_us}&tokens={self.tokens}&bare={self.bare:d}"

    @property
    def call_s(self) -> float:
        """How long an answer takes."""
        return (self.ttft_us + self.itl_us * self.tokens) / 1e6

    def starts_ns(self) -> list[int]:
        """Evenly spaced, so that the first wave is spread over one call and then as many calls end as begin."""
        if self.closed:
            return [0] * self.closed
        gap_ns = 1e9 / self.rate_per_s if self.rate_per_s else self.call_s / self.streams * 1e9
        count = int(self.seconds * 1e9 / gap_ns)
        return [round(number * gap_ns) for number in range(count)][self.first_session :: self.share]


def main() -> None:
    """Do what the argument asks."""
    asked = Asked(**json.loads(sys.argv[1]))
    go_without_pandas()  # as a worker does
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    did = uvloop.run((_latprof if asked.client == "latprof" else _aiohttp)(asked))
    did["peak_mb"] = peak_bytes() / 2**20
    did["libraries"] = sorted(
        {name.partition(".")[0] for name, module in sys.modules.items() if "site-packages" in (getattr(module, "__file__", "") or "")}
    )
    print(json.dumps(did))


async def _sampled(samples: list[tuple[int, int]]) -> None:
    """CPU time against the clock, a few times a second."""
    while True:
        samples.append((time.monotonic_ns(), time.process_time_ns()))
        await asyncio.sleep(0.25)


async def _blocking(block_ms: float) -> None:
    """A loop that stands still now and then, as one that parses too much would."""
    while block_ms:
        await asyncio.sleep(0.1)
        time.sleep(block_ms / 1000)  # noqa: ASYNC251 - that is the point


async def _latprof(asked: Asked) -> dict[str, Any]:
    from latprof.client.driver import Rules, drive
    from latprof.client.feed import feed_of
    from latprof.client.stamps import ChunkLog
    from latprof.client.transport import HttpTransport
    from latprof.observations.recorder import Recorder
    from latprof.schedule.plan import Phase, Planned
    from latprof.workload.sessions import Session, Turn

    transport = HttpTransport(pickle.loads(base64.b64decode(asked.endpoint)))  # noqa: S301 - the parent wrote it
    starts_ns = asked.starts_ns()
    turn = Turn("How long does it take?", 8, asked.tokens)
    number = asked.first_session
    planned = tuple(Planned(Session(number + asked.share * i, (turn,)), None if asked.closed else at) for i, at in enumerate(starts_ns))
    phase = Phase("measured", planned, "constant", concurrency=asked.streams if asked.closed else None)
    chunks = ChunkLog()
    samples: list[tuple[int, int]] = []
    side = [asyncio.create_task(_sampled(samples)), asyncio.create_task(_blocking(asked.block_ms))]
    with Recorder(Path(asked.folder), chunks) as recorder:
        encode = transport.encoder()
        feed = feed_of(phase, encode)
        rules = Rules("0" * 16, 1, 60 * 10**9)
        driven = await drive(phase, transport, feed, encode, chunks, rules, on_begin=recorder.begin, on_end=recorder.end)
    for task in side:
        task.cancel()
    await transport.close()
    return {"samples": samples, "start_ns": driven.start_ns, "health": dataclasses.asdict(driven.health)}


async def _aiohttp(asked: Asked) -> dict[str, Any]:
    import aiohttp
    import numpy as np

    requests: list[tuple[int, int, int]] = []
    chunks: list[tuple[int, int]] = []
    samples: list[tuple[int, int]] = []
    body = json.dumps(
        {"model": "truth", "messages": [{"role": "user", "content": "How long does it take?"}], "stream": True, "max_tokens": asked.tokens}
    )

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        sent_ns, first_ns = time.monotonic_ns(), 0
        headers = {"content-type": "application/json", "tracestate": f"latprof={number}.0"}
        async with session.post(asked.url + "/v1/chat/completions" + asked.query, data=body, headers=headers, ssl=False) as response:
            async for line in response.content:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                message = json.loads(line[6:])
                if message["choices"] and message["choices"][0]["delta"].get("content"):
                    at_ns = time.monotonic_ns()
                    first_ns = first_ns or at_ns
                    chunks.append((number, at_ns))
        requests.append((number, sent_ns, first_ns))

    side = [asyncio.create_task(_sampled(samples)), asyncio.create_task(_blocking(asked.block_ms))]
    connector = aiohttp.TCPConnector(limit=0)
    start_ns = time.monotonic_ns()
    numbered = iter(enumerate(asked.starts_ns()))
    async with aiohttp.ClientSession(connector=connector) as session:
        if asked.closed:

            async def place() -> None:
                for number, _ in numbered:
                    await one(session, asked.first_session + asked.share * number)

            await asyncio.gather(*(place() for _ in range(asked.streams)))
        else:
            tasks = []
            for number, at_ns in numbered:
                await asyncio.sleep(max(0.0, (start_ns + at_ns - time.monotonic_ns()) / 1e9))
                tasks.append(asyncio.create_task(one(session, asked.first_session + asked.share * number)))
            await asyncio.gather(*tasks)
    for task in side:
        task.cancel()
    np.savez(Path(asked.folder) / "aiohttp.npz", requests=np.array(requests, np.int64), chunks=np.array(chunks, np.int64))
    return {"samples": samples, "start_ns": start_ns, "health": None}


if __name__ == "__main__":
    main()
