"""The seam of this room: send one turn, get its stamps."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from latprof.client.address import read_address
from latprof.client.answer import Answer, Ending
from latprof.client.body import Body, BodyWriter
from latprof.client.dialects.dialect import Dialect
from latprof.client.dialects.openai_chat import OPENAI_CHAT
from latprof.client.headers import head_prefix, request_headers
from latprof.client.http1 import Ended
from latprof.client.pool import Pool, PoolLimits, UnreachableError
from latprof.client.redact import Redactor, is_sensitive, secrets_in_headers
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.config import Target
from latprof.errors import UsageError
from latprof.units import MISSING_NS, NS_PER_S
from latprof.workload.sessions import NO_ANSWERS, Answers, Session, Turn, messages


@dataclass(frozen=True, slots=True)
class Ask:
    """One turn made ready for the wire: its own header lines (all but ``traceparent``, which is the attempt's) and its body in pieces.

    ``context`` is the turn it continues (`NO_CONTEXT`: none). ``keeps_answer``: a later turn continues the real answer, so its text is wanted.
    """

    session: int
    turn: int
    context: int
    head: bytes
    body: Body
    keeps_answer: bool = False


class Encode(Protocol):
    """Makes a turn ready for the wire."""

    def __call__(self, session: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:
        """The ask of turn ``step``; ``answers`` holds the real answers of the turns in its context that have no planned one."""


def ask_for(session: Session, step: int, body: Body) -> Ask:
    """The ask of one turn. ``tracestate`` tells a stack that cares which session and turn it is: the stub keys its draws by it."""
    turn = session.steps[step]
    if not isinstance(turn, Turn):
        raise TypeError(f"step {step} of session {session.session} is a tool, wanted a turn")
    head = b"tracestate: latprof=%d.%d\r\ncontent-length: %d\r\n\r\n" % (session.session, step, sum(map(len, body)))
    keeps_answer = turn.answer is None and any(isinstance(later, Turn) and later.context == step for later in session.steps)
    return Ask(session.session, step, turn.context, head, body, keeps_answer)


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

    def __init__(self, target: Target, url: str, *, dialect: Dialect = OPENAI_CHAT, environment: Mapping[str, str] | None = None) -> None:
        """``url`` stands apart from ``target.url``, which is None for the stack in a box.

        Raises:
            UsageError: the URL, a header, the key's environment variable or the CA file cannot be used.
        """
        self.address = read_address(url, dialect.endpoint)
        self.target = target
        self.dialect = dialect
        self.stale_retries = 0
        headers = request_headers(target, self.address, os.environ if environment is None else environment)
        self.sends_authorization = any(is_sensitive(name) for name in headers)
        self.redact = Redactor([*secrets_in_headers(headers), *self.address.secrets])
        self._head = head_prefix(headers, self.address) + b"traceparent: 00-"
        limits = PoolLimits(target.max_connections, target.connect_timeout_ns)
        self._pool = Pool(self.address, limits, _tls_context(target) if self.address.is_tls else None)

    def encoder(self, *, include_usage: bool = True) -> Encode:
        """The dialect's way to make a body for this target.

        Raises:
            UsageError: the configured extra body cannot be written as JSON.
        """
        writer = BodyWriter()

        def encode(session: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:
            output_tokens = session.steps[step].output_tokens
            said = self.dialect.encode(
                messages(session, step, answers), output_tokens, model=self.target.model, include_usage=include_usage
            )
            return ask_for(session, step, writer.write(said, self.target.extra_body))

        try:
            encode(Session(0, (Turn("", 0, 1),)), 0)
        except TypeError as error:
            raise UsageError(f"--extra-body (target.extra_body) cannot be written as JSON: {error}") from None
        return encode

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:  # noqa: D102
        answer = Answer(attempt, chunks, self.dialect, self.redact, keeps_text=ask.keeps_answer)
        if attempt.start_ns == MISSING_NS:
            attempt.start_ns = time.monotonic_ns()
        left_ns = attempt.start_ns + self.target.timeout_ns - time.monotonic_ns()
        try:
            async with asyncio.timeout(left_ns / NS_PER_S):
                ended = await self._exchange(ask, attempt, answer)
        except TimeoutError:
            text = f"no complete answer within {self.target.timeout_ns / NS_PER_S:g} s (target.timeout); {_reached(attempt)}"
            answer.give_up(ErrorClass.TIMEOUT, text, time.monotonic_ns())
        except asyncio.CancelledError:
            answer.give_up(ErrorClass.INTERRUPTED, f"the run ended first; {_reached(attempt)}", time.monotonic_ns())
            raise
        except UnreachableError as error:
            answer.give_up(error.error_class, str(error), time.monotonic_ns())
        else:
            answer.end(*ended)
        return answer.text

    async def close(self) -> None:
        """Close the kept connections."""
        self._pool.close()
        await asyncio.sleep(0)  # the event loop closes the sockets in its next turn

    async def _exchange(self, ask: Ask, attempt: Attempt, answer: Answer) -> Ended:
        request = b"%b%b-%b-01\r\n%b%b" % (self._head, attempt.trace_id.encode(), attempt.span_id.encode(), ask.head, b"".join(ask.body))
        connection = await self._pool.take(attempt)
        try:
            was_reused = connection.is_reused
            ended = await connection.exchange(request, answer)
            if ended.ending is Ending.SILENT and was_reused:
                # The peer had closed it while idle, as any server may: not a failure of this request. ``send_ns`` stays the first.
                self.stale_retries += 1
                attempt.written_ns = MISSING_NS
                connection = await self._pool.open(attempt)
                ended = await connection.exchange(request, answer)
            return ended
        finally:
            self._pool.give_back(connection)


def _tls_context(target: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if target.ca_file is None else str(target.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"target.ca_file: {target.ca_file} cannot be used ({error}); give a file of PEM certificates") from None
    if not target.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _reached(attempt: Attempt) -> str:
    """How far an attempt got, for the text of its timeout."""
    if attempt.token_chunks:
        return f"{attempt.token_chunks} token-bearing chunks came"
    if attempt.headers_ns != MISSING_NS:
        return "the headers came, but no token"
    return "nothing came back" if attempt.written_ns != MISSING_NS else "the request was not sent"
