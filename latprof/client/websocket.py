"""Responses over a WebSocket: one persistent connection per session, or several sessions on one.

    turn 1    the whole input                                      connect, TLS and handshake are stamped here, and only here
    turn n    previous_response_id, and what is new                a conversation of a million tokens costs the bytes of one message

The connection's time over, the connection lost between turns, the response forgotten: the turn is sent again with its whole input, on a new
connection where the old one cannot be used. ``send_ns`` stays the first sending: what the detour took belongs to the turn.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from latprof.client.answer import Answer, Ending
from latprof.client.body import BodyWriter
from latprof.client.dial import Dialer, UnreachableError
from latprof.client.endpoint import Endpoint
from latprof.client.frames import Frames, HandshakeError
from latprof.client.http1 import Ended
from latprof.client.lanes import Again, Socket
from latprof.client.redact import Redactor
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.client.transport import Ask, Encode, ask_for, reached
from latprof.client.wire import StampClock
from latprof.units import MISSING_NS, NS_PER_S
from latprof.workload.sessions import NO_ANSWERS, NO_CONTEXT, Answers, Session, messages, new_messages, turn_of

# A response can be forgotten, then a connection expire, then another be lost: more in one turn is not bad luck.
_MOST_TRIES = 4


class FrameEncoder:
    """`Encode` for a WebSocket: each turn twice, whole and with what is new alone."""

    def __init__(self, endpoint: Endpoint, *, include_usage: bool = True) -> None:
        self._endpoint = endpoint
        self._include_usage = include_usage
        self._writer = BodyWriter()
        # Of HTTP alone; the metadata is added to each turn where it also holds the trace context.
        elsewhere = {"stream", "background", *(("metadata",) if endpoint.ws_traceparent else ())}
        self._extra_body = {key: value for key, value in endpoint.extra_body.items() if key not in elsewhere}

    def __call__(self, session: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:  # noqa: D102
        turn = turn_of(session, step)
        encode = partial(
            self._endpoint.dialect.encode, output_tokens=turn.output_tokens, model=self._endpoint.model, include_usage=self._include_usage
        )
        ask = ask_for(session, step, self._writer.write(encode(messages(session, step, answers)), self._extra_body))
        if turn.context == NO_CONTEXT:
            return ask
        return replace(ask, new_body=self._writer.write(encode(new_messages(session, step)), self._extra_body))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(FrameEncoder, include_usage=self._include_usage), (self._endpoint,)


@dataclass(slots=True, eq=False)
class _Line:
    """A connection to be: ``socket`` once it is open. ``sessions`` have it for themselves, up to as many as share one."""

    opened: asyncio.Future[Socket]
    sessions: set[int] = field(default_factory=set)

    @property
    def socket(self) -> Socket | None:
        return self.opened.result() if self.opened.done() and not self.opened.cancelled() and self.opened.exception() is None else None

    @property
    def may_be_used(self) -> bool:
        return not self.opened.done() or (self.socket is not None and self.socket.is_usable)


class WebSocketTransport:
    """A `latprof.client.transport.Transport`, inside a running event loop.

    ``reconnects`` counts the turns that needed a new connection in their midst, ``forgotten`` those whose context the server had lost.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.reconnects = 0
        self.forgotten = 0
        self.redact = Redactor(endpoint.secrets)
        self.clock = StampClock()
        self._dialer = Dialer(endpoint, self.clock)
        self._lines: dict[int, _Line] = {}  # by session
        self._open_lines: list[_Line] = []
        self._places = asyncio.Semaphore(endpoint.max_connections)
        self._over: set[int] = set()

    @property
    def stale_retries(self) -> int:
        """How many turns were sent again because their connection had died or had had its time."""
        return self.reconnects

    def encoder(self, *, include_usage: bool = True) -> Encode:
        """The way to make bodies for this target."""
        return FrameEncoder(self.endpoint, include_usage=include_usage)

    def sockets(self) -> list[int]:
        """The descriptors of the connections that carry a turn now."""
        sockets = [line.socket for line in self._open_lines]
        return [socket.fileno() for socket in sockets if socket is not None and socket.is_usable and socket.is_awaited()]

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:  # noqa: D102
        endpoint = self.endpoint
        answer = Answer(attempt, chunks, endpoint.dialect, self.redact, keeps_text=ask.keeps_answer)
        if attempt.start_ns == MISSING_NS:
            attempt.start_ns = time.monotonic_ns()
        left_ns = attempt.start_ns + endpoint.timeout_ns - time.monotonic_ns()
        try:
            async with asyncio.timeout(max(0, left_ns) / NS_PER_S):
                ended = await self._ask(ask, answer)
        except TimeoutError:
            text = f"no complete answer within {endpoint.timeout_ns / NS_PER_S:g} s (target.timeout); {reached(attempt)}"
            answer.give_up(ErrorClass.TIMEOUT, text, time.monotonic_ns())
        except asyncio.CancelledError:
            answer.give_up(ErrorClass.INTERRUPTED, f"the run ended first; {reached(attempt)}", time.monotonic_ns())
            self._leave(ask.session)
            raise
        except UnreachableError as error:
            answer.give_up(error.error_class, str(error), time.monotonic_ns())
        except HandshakeError as error:
            _refuse(answer, error)
        else:
            answer.end(*ended)
        self._after(ask, attempt)
        return answer.text

    async def close(self) -> None:
        """Close every connection."""
        for line in self._open_lines.copy():
            self._drop(line)
        self._lines.clear()
        self.clock.close()

    # --- a turn --------------------------------------------------------------------------------------------------------------------------

    async def _ask(self, ask: Ask, answer: Answer) -> Ended:
        more = self._metadata(ask, answer.attempt)
        for number in range(_MOST_TRIES):
            socket = await self._socket(ask.session, answer.attempt)
            previous = (ask.session, ask.context)
            goes_on = ask.new_body != () and socket.response_of(*previous) != ""
            body = b"".join(ask.new_body if goes_on else ask.body)
            ended, again = await socket.turn((ask.session, ask.turn), body, previous if goes_on else None, more, answer)
            if again is None or number == _MOST_TRIES - 1:
                break
            answer.attempt.written_ns = MISSING_NS
            if again is Again.NOT_FOUND:
                self.forgotten += 1
                socket.forget(ask.session)
            else:
                self.reconnects += 1
        return ended

    def _metadata(self, ask: Ask, attempt: Attempt) -> dict[str, Any]:
        """The trace context of this attempt: a turn has no headers to put it in."""
        if not self.endpoint.ws_traceparent:
            return {}
        told = self.endpoint.extra_body.get("metadata")
        context = {
            "traceparent": f"00-{attempt.trace_id}-{attempt.span_id}-{self.endpoint.sampled:02x}",
            "tracestate": f"latprof={ask.session}.{ask.turn}",
        }
        return {"metadata": {**(told if isinstance(told, dict) else {}), **context}}

    def _after(self, ask: Ask, attempt: Attempt) -> None:
        """Give up the session's connection where no turn will follow: after its last, and after a failure, which ends it."""
        if ask.is_last or not attempt.succeeded or self.endpoint.reuse == "fresh":
            self._over.add(ask.session)
        if ask.session in self._over:
            self._leave(ask.session)

    # --- connections ---------------------------------------------------------------------------------------------------------------------

    async def _socket(self, session: int, attempt: Attempt) -> Socket:
        """The connection of ``session``: the one it has, one with room, or a new one with its phases stamped on ``attempt``.

        Raises:
            UnreachableError: with the phase that failed.
            HandshakeError: the peer is no WebSocket.
        """
        line = self._lines.get(session)
        if line is not None and not line.may_be_used:
            self._leave(session, whatever=True)
            line = None
        if line is None:
            self._drop_dead()
            line = self._line_with_room()
            is_new = line is None
            if line is None:
                line = _Line(asyncio.get_running_loop().create_future())
            line.sessions.add(session)
            self._lines[session] = line
            if is_new:
                return await self._open(line, attempt)
        # Whoever shares a connection that another turn is opening waits for it; not cancelled with one of them.
        return await asyncio.shield(line.opened)

    def _line_with_room(self) -> _Line | None:
        most = self.endpoint.ws_streams
        fits = (line for line in self._open_lines if len(line.sessions) < most and line.may_be_used)
        return next(fits, None) if most > 1 else None

    async def _open(self, line: _Line, attempt: Attempt) -> Socket:
        self._open_lines.append(line)  # from here on others may join it
        has_place = False
        try:
            has_place = await self._places.acquire()
            socket = await self._dial(attempt)
        except BaseException as error:
            if has_place:
                self._places.release()
            self._open_lines.remove(line)
            told = (
                error if isinstance(error, UnreachableError | HandshakeError) else UnreachableError(ErrorClass.CONNECT, "nobody connected")
            )
            line.opened.set_exception(told)
            line.opened.exception()  # looked at: nobody else may be waiting
            raise
        line.opened.set_result(socket)
        return socket

    async def _dial(self, attempt: Attempt) -> Socket:
        wire = await self._dialer.open(attempt)
        frames = Frames(wire)
        try:
            at_ns = await frames.shake_hands(self.endpoint.head)
        except BaseException:
            wire.close()
            raise
        # Like a tunnel's, the handshake is part of what it takes to have a connection.
        if attempt.tls_end_ns != MISSING_NS:
            attempt.tls_end_ns = at_ns
        else:
            attempt.connect_end_ns = at_ns
        return Socket(frames, is_shared=self.endpoint.ws_streams > 1)

    def _leave(self, session: int, *, whatever: bool = False) -> None:
        """``session`` is done with its connection, unless it still waits for turns; its own is closed, a shared one stays."""
        line = self._lines.get(session)
        if line is None:
            return
        socket = line.socket
        if socket is not None and not whatever and socket.is_awaited(session):
            return
        del self._lines[session]
        self._over.discard(session)
        line.sessions.discard(session)
        if socket is None:
            return
        socket.forget(session)
        is_kept = self.endpoint.ws_streams > 1 and self.endpoint.reuse != "fresh" and socket.is_usable
        if not line.sessions and not is_kept:
            self._drop(line)

    def _drop_dead(self) -> None:
        """Connections that were kept for whoever comes, and that the server has closed or will not use much longer, give their places back."""
        for line in self._open_lines.copy():
            if line.socket is not None and not line.sessions and not line.may_be_used:
                self._drop(line)

    def _drop(self, line: _Line) -> None:
        """Close a connection."""
        if line.socket is not None:
            line.socket.close()
            self._open_lines.remove(line)
            self._places.release()


def _refuse(answer: Answer, error: HandshakeError) -> None:
    """A handshake that failed ends the turn as an HTTP answer of that status would."""
    answer.at_ns = error.at_ns
    if error.status >= 400:
        answer.on_headers(error.status)
        answer.on_body(error.body)
        answer.end(Ending.COMPLETE, error.at_ns)
    elif error.status:
        said = error.body.decode("utf-8", "replace")
        answer.give_up(ErrorClass.NOT_SSE, f"wanted a WebSocket, got HTTP {error.status} ({error}) {said}", error.at_ns)
    else:
        answer.give_up(ErrorClass.DISCONNECTED, f"no WebSocket: {error}", error.at_ns)
