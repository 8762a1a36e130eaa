"""WebSocket framing as bytes: whatever the split, the same messages, each with the stamp of the read that completed it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from latprof.client.frames import Frames, HandshakeError

HEAD = b"POST /v1/responses?x=1 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer k\r\n"


class FakeWire:
    """Takes what is sent; plays what it is given."""

    def __init__(self) -> None:
        self.on_read: Any = None
        self.on_closed: Any = None
        self.on_written: Any = None
        self.is_open = True
        self.sent: list[bytes] = []

    def send(self, pieces: Sequence[bytes]) -> None:
        assert self.is_open
        self.sent += pieces

    def close(self) -> None:
        self.is_open = False


def accepted(request: bytes, extra: bytes = b"") -> bytes:
    key = next(line for line in request.split(b"\r\n") if line.startswith(b"sec-websocket-key: ")).partition(b": ")[2]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - the standard's own
    return b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n" % (
        accept,
        extra,
    )


def framed(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return bytes(Frame(opcode, data, fin).serialize(mask=False))


def in_frames(message: bytes, cuts: Sequence[int]) -> bytes:
    """A message in as many fragments as there are cuts and one, with a ping between any two."""
    edges = [0, *sorted(cut % (len(message) + 1) for cut in cuts), len(message)]
    parts = [message[begin:end] for begin, end in pairwise(edges)]
    frames = [framed(Opcode.CONT if number else Opcode.TEXT, part, fin=number == len(parts) - 1) for number, part in enumerate(parts)]
    return framed(Opcode.PING, b"are you there").join(frames)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=200), st.lists(st.integers(0, 300), max_size=3)), min_size=1, max_size=5),
    st.lists(st.integers(0, 4000), max_size=10),
)
def test_any_split_gives_the_same_messages(messages: list[tuple[str, list[int]]], cuts: list[int]) -> None:
    async def play() -> None:
        wire = FakeWire()
        frames = Frames(wire)  # type: ignore[arg-type]
        heard: list[tuple[bytes, int]] = []
        frames.on_message = lambda data, at_ns: heard.append((data, at_ns))
        shaking = asyncio.ensure_future(frames.shake_hands(HEAD))
        await asyncio.sleep(0)
        request = b"".join(wire.sent)
        assert request.startswith(b"GET /v1/responses?x=1 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer k\r\nupgrade: websocket\r\n")
        handshake, ends = accepted(request), []
        stream = handshake
        for text, fragments in messages:
            stream += in_frames(text.encode(), fragments)
            ends.append(len(stream))
        edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
        for begin, end in pairwise(edges):
            wire.on_read(stream[begin:end], end)  # a read's stamp: how many bytes had come
        first_edge = next(edge for edge in edges if edge >= len(handshake))
        assert await shaking == first_edge
        completing = [next(edge for edge in edges if edge >= end) for end in ends]
        assert heard == [(text.encode(), at_ns) for (text, _), at_ns in zip(messages, completing, strict=True)]
        pings = sum(len(fragments) for _, fragments in messages)
        assert len([piece for piece in wire.sent[1:] if piece[0] == 0x80 | Opcode.PONG]) == pings

    asyncio.run(play())


async def opened() -> tuple[FakeWire, Frames, list[tuple[int, str]]]:
    wire = FakeWire()
    frames = Frames(wire)  # type: ignore[arg-type]
    closed: list[tuple[int, str]] = []
    frames.on_closed = lambda at_ns, text: closed.append((at_ns, text))
    shaking = asyncio.ensure_future(frames.shake_hands(HEAD))
    await asyncio.sleep(0)
    wire.on_read(accepted(b"".join(wire.sent)), 1)
    await shaking
    return wire, frames, closed


async def test_what_is_sent_is_masked_and_whole() -> None:
    wire, frames, _ = await opened()
    (message,) = frames.framed(b'{"type":"response.create"}')
    assert message[0] == 0x80 | Opcode.TEXT
    assert message[1] == 0x80 | 26
    mask = message[2:6]
    assert bytes(byte ^ mask[number % 4] for number, byte in enumerate(message[6:])) == b'{"type":"response.create"}'
    frames.close()
    assert wire.sent[-1][0] == 0x80 | Opcode.CLOSE
    assert not frames.is_open


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (framed(Opcode.CLOSE, Close(1001, "going away").serialize()), "going away"),
        (b"\xff\xff\xff", "no WebSocket's"),
        (framed(Opcode.CONT, b"of nothing"), "no WebSocket's"),
    ],
)
async def test_a_peer_that_leaves_or_breaks_the_rules_is_lost_once(data: bytes, text: str) -> None:
    wire, frames, closed = await opened()
    wire.on_read(data, 7)
    assert not wire.is_open
    assert len(closed) == 1
    assert text in closed[0][1]
    assert not frames.is_open


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\n\r\nnope", 401, "401"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nuntil the end", 403, "403"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 101, "Accept"),
        (b"nonsense\r\n", 0, "unsupported|invalid|did not"),
        (b"", 0, "closed"),
    ],
)
async def test_a_handshake_that_fails_says_how(answer: bytes, status: int, text: str) -> None:
    wire = FakeWire()
    frames = Frames(wire)  # type: ignore[arg-type]
    shaking = asyncio.ensure_future(frames.shake_hands(HEAD))
    await asyncio.sleep(0)
    if answer:
        wire.on_read(answer, 3)
    if not shaking.done():
        wire.on_closed(4, "")
    with pytest.raises(HandshakeError, match=text) as failed:
        await shaking
    assert failed.value.status == status
