"""The seam of this room: send one turn, get its stamps."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from latprof.client.answer import Answer, Ending
from latprof.client.body import Body, BodyWriter
from latprof.client.dial import Dialer, UnreachableError
from latprof.client.endpoint import Endpoint
from latprof.client.http1 import Ended
from latprof.client.pool import Pool
from latprof.client.redact import Redactor
from latprof.client.stamps import STALE_NS, Attempt, ChunkLog, ErrorClass
from latprof.client.wire import StampClock
from latprof.units import MISSING_NS, NS_PER_S
from latprof.workload.sessions import NO_ANSWERS, Answers, Session, Turn, messages, turn_of

_WATCH_S = 0.05
_COPIED_BYTES = 65_536
_SILENT: Final = Ending.SILENT


@dataclass(frozen=True, slots=True)
class Ask:
    """One turn made ready for the wire: its own header lines (all but ``traceparent``, which is the attempt's) and its body in pieces.

    ``context`` is the turn it continues (`NO_CONTEXT`: none). ``keeps_answer``: a later turn continues the real answer, so its text is wanted.
    ``is_last``: the session has no later turn. ``new_body`` asks for the same where the server remembers the context: nothing is said again.
    """

    session: int
    turn: int
    context: int
    head: bytes
    body: Body
    keeps_answer: bool = False
    is_last: bool = True
    new_body: Body = ()


class Encode(Protocol):
    """Makes a turn ready for the wire."""

    def __call__(self, session: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:
        """The ask of turn ``step``; ``answers`` holds the real answers of the turns in its context that have no planned one."""


def ask_for(session: Session, step: int, body: Body) -> Ask:
    """The ask of one turn. ``tracestate`` tells a stack that cares which session and turn it is: the stub keys its draws by it."""
    turn = turn_of(session, step)
    later = [one for one in session.steps[step + 1 :] if isinstance(one, Turn)]
    return Ask(
        session.session,
        step,
        turn.context,
        b"tracestate: latprof=%d.%d\r\ncontent-length: %d\r\n\r\n" % (session.session, step, sum(map(len, body))),
        body,
        keeps_answer=turn.answer is None and any(one.context == step for one in later),
        is_last=not later,
    )


class Encoder:
    """`Encode` for one endpoint; texts that asks share are escaped once. Can be handed to another process, without what it has written."""

    def __init__(self, endpoint: Endpoint, *, include_usage: bool = True) -> None:
        self._endpoint = endpoint
        self._include_usage = include_usage
        self._writer = BodyWriter()

    def __call__(self, session: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:  # noqa: D102
        endpoint = self._endpoint
        turn = turn_of(session, step)
        told = messages(session, step, answers)
        said = endpoint.dialect.encode(told, turn.output_tokens, model=endpoint.model, include_usage=self._include_usage)
        return ask_for(session, step, self._writer.write(said, endpoint.extra_body))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Encoder, include_usage=self._include_usage), (self._endpoint,)


class Transport(Protocol):
    """Sends turns."""

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:
        """Send ``ask``, fill in ``attempt`` and append every event of the answer to ``chunks``; the answer's text where it is to be kept.

        Returns when the answer is over or has failed, ``end_ns`` and ``error_class`` set; never raises for anything the server or the
        network does. Cancelling it closes the connection, and the attempt ends as interrupted.
        """


class HttpTransport:
    """HTTP/1.1 with keep-alive, inside a running event loop.

    ``stale_retries`` counts the requests that were sent again because a kept connection had died under them.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.stale_retries = 0
        self.redact = Redactor(endpoint.secrets)
        self.clock = StampClock()
        self._dialect = endpoint.dialect
        self._head = endpoint.head + b"traceparent: 00-"
        self._flags = b"-01\r\n" if endpoint.sampled else b"-00\r\n"
        self._pool = Pool(Dialer(endpoint, self.clock), endpoint.max_connections, endpoint.reuse)
        self._watch: asyncio.TimerHandle | None = None

    def encoder(self, *, include_usage: bool = True) -> Encode:
        """The dialect's way to make a body for this target."""
        return Encoder(self.endpoint, include_usage=include_usage)

    def sockets(self) -> list[int]:
        """The descriptors of the connections that carry a request now."""
        return [connection.fileno() for connection in self._pool.in_use if connection.is_open]

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:  # noqa: D102
        answer = Answer(attempt, chunks, self._dialect, self.redact, keeps_text=ask.keeps_answer)
        if attempt.start_ns == MISSING_NS:
            attempt.start_ns = time.monotonic_ns()
        deadline_ns = attempt.start_ns + self.endpoint.timeout_ns
        connection = None
        try:
            request = self._request(ask, attempt)
            connection = self._pool.take_idle(ask.session) or await self._pool.take(attempt, deadline_ns)
            if self._watch is None:
                self._watch_over()
            ended = await connection.begin(request, answer, deadline_ns)
            if ended.ending is _SILENT and connection.is_reused and _was_stale(ended, attempt):
                # The peer had closed it while idle, as any server may: not a failure of this request. ``send_ns`` stays the first.
                self.stale_retries += 1
                attempt.written_ns = MISSING_NS
                connection = await self._pool.replace(connection, attempt, deadline_ns)
                self._watch_over()
                ended = await connection.begin(request, answer, deadline_ns)
        except TimeoutError:
            text = f"no complete answer within {self.endpoint.timeout_ns / NS_PER_S:g} s (target.timeout); {reached(attempt)}"
            answer.give_up(ErrorClass.TIMEOUT, text, time.monotonic_ns())
        except asyncio.CancelledError:
            answer.give_up(ErrorClass.INTERRUPTED, f"the run ended first; {reached(attempt)}", time.monotonic_ns())
            raise
        except UnreachableError as error:
            answer.give_up(error.error_class, str(error), time.monotonic_ns())
        else:
            answer.end(*ended)
        finally:
            if connection is not None:
                self._pool.give_back(connection, ask.session, is_last=ask.is_last or not attempt.succeeded)
        return answer.text if ask.keeps_answer else ""

    async def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()
        self.clock.close()
        if self._watch is not None:
            self._watch.cancel()

    def _request(self, ask: Ask, attempt: Attempt) -> Body:
        """The bytes of one attempt. A short body goes with the head in one piece; a long one is never copied."""
        head = (self._head, f"{attempt.trace_id}-{attempt.span_id}".encode(), self._flags, ask.head)
        body = ask.body
        if len(body) == 1 and len(body[0]) < _COPIED_BYTES:
            return (b"".join((*head, body[0])),)
        return (b"".join(head), *body)

    def _watch_over(self) -> None:
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(_WATCH_S, self._on_watch)

    def _on_watch(self) -> None:
        """One look at all requests in flight, instead of a timer for each: a timeout may come this much late."""
        self._watch = None
        now_ns = time.monotonic_ns()
        for connection in self._pool.in_use:
            connection.look(now_ns)
        if self._pool.in_use:
            self._watch = asyncio.get_running_loop().call_later(_WATCH_S, self._on_watch)


def _was_stale(ended: Ended, attempt: Attempt) -> bool:
    """Whether a kept connection was dead before the request: nothing came back, and that was known at once.

    A server that thinks and then hangs up has failed this request; to send it again would hide that.
    """
    return ended.ending is _SILENT and ended.at_ns - attempt.send_ns < STALE_NS


def reached(attempt: Attempt) -> str:
    """How far an attempt got, for the text of its timeout."""
    if attempt.token_chunks:
        return f"{attempt.token_chunks} token-bearing chunks came"
    if attempt.first_event_ns != MISSING_NS:
        return "the stream began, but no token came"
    if attempt.headers_ns != MISSING_NS:
        return "the headers came, but no token"
    return "nothing came back" if attempt.written_ns != MISSING_NS else "the request was not sent"
