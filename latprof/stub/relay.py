"""Tokens on their way back through a hop, and the calls between hops.

Between stages a stream is lines: ``"text"`` (JSON) per token, then one object, ``{"cached_tokens": n}`` or ``{"error": {...}}``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from latprof.stub.live import Hop, Leg, Visit
from latprof.stub.models.stages import HOLD, Layer
from latprof.stub.serving import error_body

_QUOTE = b'"'

Write = Callable[[list[bytes]], Awaitable[None]]


@dataclass(slots=True)
class Relay:
    """What one hop keeps chunks for on the way back."""

    hop: Hop
    layer: Layer
    every_chunk: bool  # more than the first is held

    async def tokens(self, visit: Visit, leg: Leg, content: aiohttp.StreamReader, write: Write) -> dict[str, Any]:
        """Pass the tokens of ``content`` on as they come, each held for its time. Returns the closing object."""
        passed = 0
        async for received_ns, lines in _reads(content):
            texts = [line for line in lines if line.startswith(_QUOTE)]
            for part in self._parts(texts, first=passed == 0):
                if passed == 0:
                    leg.first_chunk_ns = received_ns
                await self._hold(visit, received_ns, passed)
                passed += len(part)
                await write(part)
            if len(texts) < len(lines):
                return _closing(lines[-1])
        return error_body(502, f"{leg.target} closed its stream without an end")

    def _parts(self, texts: list[bytes], *, first: bool) -> list[list[bytes]]:
        """What is held and written together: chunks that came in one read go on in one write, unless each has its own hold."""
        if self.every_chunk:
            return [[text] for text in texts]
        parts = [texts[:1], texts[1:]] if first else [texts]
        return [part for part in parts if part]

    async def _hold(self, visit: Visit, received_ns: int, nth: int) -> None:
        if nth > 0 and not self.every_chunk:
            return
        hold_ns = self.layer.hold_ns(visit.key, self.hop.stage, nth)
        # A later chunk may have lain in the buffer while the one before it was held: its own cost starts now.
        start_ns = received_ns if nth == 0 else time.monotonic_ns()
        if hold_ns:
            await self.hop.sleep_until(start_ns + hold_ns, visit.key)
        if nth == 0:
            visit.first_chunk_ns = time.monotonic_ns()
            visit.layer(HOLD, received_ns, 0, visit.first_chunk_ns - received_ns, hold_ns, visit.first_chunk_ns)


def relay(hop: Hop, layer: Layer) -> Relay:
    """The return path of ``hop``."""
    law = layer.law
    return Relay(hop, layer, every_chunk=law.dist != "constant" or law.mean_ns > 0)


def client_of(hop: Hop) -> aiohttp.ClientSession:
    """The hop's client for calls between stages: no limit, no cookies, connections kept as long as the stack lives."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3600.0)
    skip = ("User-Agent", "Accept", "Accept-Encoding")
    timeout = aiohttp.ClientTimeout(total=None)
    client = aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=skip, auto_decompress=False
    )
    hop.on_stop.append(client.close)
    return client


async def _reads(content: aiohttp.StreamReader) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Each read's stamp and the lines it completed."""
    rest = b""
    while read := await content.readany():
        received_ns = time.monotonic_ns()
        *lines, rest = (rest + read).split(b"\n")
        if lines:
            yield received_ns, lines


def _closing(line: bytes) -> dict[str, Any]:
    closing: dict[str, Any] = orjson.loads(line)
    return closing
