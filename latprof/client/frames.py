"""A `Wire` that speaks WebSocket (RFC 6455): its handshake, and whole messages both ways, stamped by the reads that completed them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from latprof.client.wire import Wire

OnMessage = Callable[[bytes, int], None]
"""A whole message, and the stamp of the read that completed it."""
_NORMAL_CLOSURE = 1000


class HandshakeError(Exception):
    """The peer did not become a WebSocket; ``status`` is 0 where it did not even speak HTTP."""

    def __init__(self, status: int, body: bytes, at_ns: int, text: str) -> None:
        super().__init__(text)
        self.status, self.body, self.at_ns = status, body, at_ns


class Frames:
    """Messages on one connection. ``on_message`` and ``on_closed`` can be exchanged at any time; the wire belongs to this from here on."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.on_message: OnMessage = _ignore
        self.on_closed: Callable[[int, str], None] = _ignore
        # No compression is offered: a compressed stream would be stamped by the compressor's blocks. The URI is told by our own request.
        self._protocol = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
        self._parts: list[bytes] = []
        self._shaken: asyncio.Future[int] | None = None
        wire.on_read, wire.on_closed = self._read, self._gone

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent, as far as this side knows."""
        return self.wire.is_open and self._protocol.state.name == "OPEN"

    async def shake_hands(self, head: bytes) -> int:
        """Ask with ``head``, an HTTP request's first line and headers; the stamp of the read that completed the answer.

        Raises:
            HandshakeError: the peer answered otherwise, or closed.
        """
        _, _, headers = head.partition(b"\r\n")
        target = head.split(b" ", 2)[1]
        key = self._protocol.key.encode()
        upgrade = b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: %b\r\n\r\n" % key
        self._shaken = asyncio.get_running_loop().create_future()
        self.wire.send([b"GET %b HTTP/1.1\r\n%b%b" % (target, headers, upgrade)])
        return await self._shaken

    def framed(self, text: bytes) -> list[bytes]:
        """``text`` as a message, masked as the standard demands: 0.7 ms a megabyte, so it is done before the sent stamp is taken."""
        self._protocol.send_text(text)
        return self._protocol.data_to_send()

    def close(self) -> None:
        """Say goodbye, and close without waiting for the answer."""
        if self.is_open:
            self._protocol.send_close(_NORMAL_CLOSURE)
            self._flush()
        self.wire.close()

    def _read(self, data: bytes, at_ns: int) -> None:
        self._protocol.receive_data(data)
        self._take(at_ns)
        self._flush()
        if self._protocol.parser_exc is not None:
            self._lose(at_ns, f"(what it sent is no WebSocket's: {self._protocol.parser_exc})")

    def _take(self, at_ns: int) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._judge(event, at_ns)
            elif not isinstance(event, Frame):
                continue
            elif event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                self._parts.append(bytes(event.data))
                if event.fin:
                    whole, self._parts = self._parts, []
                    self.on_message(whole[0] if len(whole) == 1 else b"".join(whole), at_ns)
            elif event.opcode is Opcode.CLOSE:
                self._lose(at_ns, f"(it closed the WebSocket: {self._protocol.close_rcvd})")

    def _judge(self, response: Response, at_ns: int) -> None:
        shaken = self._shaken
        if shaken is None or shaken.done():
            return
        wrong = self._protocol.handshake_exc
        if wrong is None:
            shaken.set_result(at_ns)
        else:
            shaken.set_exception(HandshakeError(response.status_code, bytes(response.body or b""), at_ns, str(wrong)))

    def _gone(self, at_ns: int, text: str) -> None:
        if self._protocol.state.name != "CLOSED":
            self._protocol.receive_eof()
            self._take(at_ns)  # an answer to the handshake that only the end of the stream ends
        self._lose(at_ns, text)

    def _lose(self, at_ns: int, text: str) -> None:
        self.wire.close()
        if self._shaken is not None and not self._shaken.done():
            wrong = self._protocol.handshake_exc
            told = str(wrong.__cause__ or wrong) if wrong is not None else "the peer closed the connection"
            self._shaken.set_exception(HandshakeError(0, b"", at_ns, f"{told} {text}".rstrip()))
        on_closed, self.on_closed = self.on_closed, _ignore
        on_closed(at_ns, text)

    def _flush(self) -> None:
        """What the protocol itself has to say: answers to pings, goodbyes; nothing where the connection is gone."""
        for piece in self._protocol.data_to_send():
            if self.wire.is_open and piece:
                self.wire.send([piece])


def _ignore(*_: object) -> None:
    pass
