"""One WebSocket for the Responses API: turns out, events in, and which response of which turn can be gone on from.

lane       requests of one `stream_id` are worked off in order; the nameless lane is one too. Several lanes run side by side.
response   the server remembers each lane's last one as long as the connection lives: later turns bring only what is new
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import orjson

from latprof.client.answer import Answer, Ending
from latprof.client.dialects.openai_responses import read
from latprof.client.frames import Frames
from latprof.client.http1 import Ended
from latprof.client.sse import SseEvent
from latprof.client.stamps import STALE_NS, ErrorClass
from latprof.units import MISSING_NS

MOST_LANES: Final = 32
"""What the API allows on one connection."""
_MOST_MARKED_BYTES = 4096  # an error event is short; a text that long is not searched for one
_OK = 200


class Again(Enum):
    """Why a turn must be asked again, with its whole input."""

    NOT_FOUND = auto()  # the server has forgotten the response it goes on from
    EXPIRED = auto()  # the connection has had its time
    LOST = auto()  # it was closed before anything of the answer came


_RECOVERED: Final = {"previous_response_not_found": Again.NOT_FOUND, "websocket_connection_limit_reached": Again.EXPIRED}


class Outcome(NamedTuple):
    """How a turn went: over, or to be asked again (then ``ended`` says how it would end if nobody did)."""

    ended: Ended
    again: Again | None = None


@dataclass(slots=True, eq=False)
class _Turn:
    """A turn in flight. Once it was abandoned its events are dropped as they come: nothing can call them off."""

    session: int
    answer: Answer
    over: asyncio.Future[Outcome]
    goes_on: bool
    sent_ns: int = MISSING_NS
    read: int = -1
    is_abandoned: bool = False


@dataclass(slots=True)
class _Lane:
    """``turns`` in the order they were sent: events belong to the first. ``holds`` is the turn (session, step) whose response it remembers."""

    name: str | None
    turns: deque[_Turn] = field(default_factory=deque)
    holds: tuple[int, int] | None = None


class Socket:
    """A WebSocket that is open, and what it is used for. ``is_shared``: sessions on it are told apart by their lanes' names."""

    def __init__(self, frames: Frames, *, is_shared: bool) -> None:
        self.has_had_turns = False
        self._frames = frames
        self._is_shared = is_shared
        self._is_expired = False
        self._lanes: dict[str | None, _Lane] = {}
        self._lanes_of: dict[int, list[_Lane]] = {}
        self._responses: dict[tuple[int, int], str] = {}
        self._unwritten: list[_Turn] = []
        self._reads = 0
        self._read_ns = self._read_before_ns = MISSING_NS  # stamps of the read in hand, and of the one before it
        self._user_stamps = frames.wire.user_stamps
        frames.on_message, frames.on_closed = self._received, self._closed
        frames.wire.on_written = self._written

    @property
    def is_usable(self) -> bool:
        """Whether another turn can be asked here."""
        return self._frames.is_open and not self._is_expired

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._frames.wire.fileno()

    def is_awaited(self, session: int | None = None) -> bool:
        """Whether somebody waits for a turn that is in flight, of ``session`` or of any."""
        turns = [turn for lane in self._lanes.values() for turn in lane.turns]
        return any(not turn.is_abandoned for turn in turns if session is None or turn.session == session)

    def response_of(self, session: int, step: int) -> str:
        """The id of the response of a turn, where it can be gone on from; else empty."""
        return self._responses.get((session, step), "")

    def forget(self, session: int) -> None:
        """``session`` needs its responses and lanes no more."""
        for key in [key for key in self._responses if key[0] == session]:
            del self._responses[key]
        for lane in self._lanes_of.pop(session, ()):
            lane.holds = None

    def close(self) -> None:
        """Say goodbye; turns in flight, if there are any, are lost."""
        self._frames.close()
        self._closed(time.monotonic_ns(), "(closed by latprof)")

    async def turn(
        self, where: tuple[int, int], body: bytes, previous: tuple[int, int] | None, more: dict[str, Any], answer: Answer
    ) -> Outcome:
        """Ask turn ``where`` (session, step) with ``body``, a JSON object, and let ``answer`` take in what comes.

        ``previous`` is the turn whose response it goes on from (None: ``body`` is the whole input), ``more`` further fields. Stamps
        ``send_ns``, unless the turn was sent before, and ``written_ns``. Cancelled, it leaves its events to be dropped.
        """
        lane = self._lane_for(where[0], previous)
        fields = dict(more)
        if previous is not None:
            fields["previous_response_id"] = self._responses[previous]
        if lane.name is not None:
            fields["stream_id"] = lane.name
        turn = _Turn(where[0], answer, asyncio.get_running_loop().create_future(), goes_on=previous is not None)
        lane.turns.append(turn)
        pieces = self._frames.framed(body[:-1] + b"," + orjson.dumps(fields)[1:] if fields else body)
        self._unwritten.append(turn)
        turn.sent_ns = time.monotonic_ns()
        if answer.attempt.send_ns == MISSING_NS:
            answer.attempt.send_ns = turn.sent_ns
        self._frames.wire.send(pieces)
        try:
            outcome = await turn.over
        except BaseException:
            turn.is_abandoned = True
            raise
        self.has_had_turns = True
        if outcome.again is None and answer.attempt.response_id and answer.is_done and answer.attempt.error_class == ErrorClass.NONE:
            self._responses[where] = answer.attempt.response_id
            lane.holds = where
        return outcome

    # --- lanes ---------------------------------------------------------------------------------------------------------------------------

    def _lane_for(self, session: int, previous: tuple[int, int] | None) -> _Lane:
        """The lane that remembers ``previous``, if it is idle; else a lane of the session that nobody goes on from; else a new one."""
        own = self._lanes_of.setdefault(session, [])
        idle = [lane for lane in own if not lane.turns]
        for lane in idle:
            if lane.holds == previous:  # for a turn that begins: one that holds nothing
                return lane
        lane = self._new_lane() or (idle or own or list(self._lanes.values()))[0]
        if lane not in own:
            own.append(lane)
        return lane

    def _new_lane(self) -> _Lane | None:
        taken = {id(lane) for lanes in self._lanes_of.values() for lane in lanes}
        for lane in self._lanes.values():
            if id(lane) not in taken and not lane.turns:
                return lane
        if len(self._lanes) >= MOST_LANES:
            return None
        # A connection of a single conversation needs no names, and older servers know none.
        name = f"s{len(self._lanes)}" if self._is_shared or self._lanes else None
        self._lanes[name] = lane = _Lane(name)
        return lane

    # --- the connection calls these ------------------------------------------------------------------------------------------------------

    def _written(self, at_ns: int) -> None:
        for turn in self._unwritten:
            if turn.answer.attempt.written_ns == MISSING_NS:
                turn.answer.attempt.written_ns = at_ns
        self._unwritten.clear()

    def _received(self, data: bytes, at_ns: int) -> None:
        wire = self._frames.wire
        if self._reads != wire.reads:  # several events may come with one read
            self._reads, self._read_before_ns, self._read_ns = wire.reads, self._read_ns, at_ns
        lane = self._lanes.get(self._name_in(data)) or self._only_busy_lane()
        if lane is None or not lane.turns:
            self._unasked(data, at_ns)
        else:
            self._deliver(lane, data, at_ns)
        self._user_stamps = wire.user_stamps

    def _name_in(self, data: bytes) -> str | None:
        """Which lane an event belongs to; nobody needs to look while there is only the nameless one."""
        if not self._is_shared and len(self._lanes) < 2:
            return None
        name = _object(data).get("stream_id")
        return name if isinstance(name, str) else None

    def _only_busy_lane(self) -> _Lane | None:
        """Whose an event without a name must be, from a server that does not repeat names."""
        busy = [lane for lane in self._lanes.values() if lane.turns]
        return busy[0] if len(busy) == 1 else None

    def _unasked(self, data: bytes, at_ns: int) -> None:
        """An event of no turn: the connection's own trouble, or the rest of a turn that is over."""
        again = _again(data)
        if again is Again.EXPIRED:
            self._is_expired = True
            for lane in self._lanes.values():
                for turn in lane.turns:
                    _settle(turn, _retried(turn, Ended(Ending.CUT, at_ns, "(its time was over)"), again))

    def _deliver(self, lane: _Lane, data: bytes, at_ns: int) -> None:
        turn = lane.turns[0]
        event = SseEvent(data, b"", len(data))
        if turn.is_abandoned:
            if read(event).done:
                lane.turns.popleft()
            return
        outcome = self._outcome(turn, event, at_ns)
        if outcome is not None:
            lane.turns.popleft()
            self._is_expired = self._is_expired or outcome.again is Again.EXPIRED
            _settle(turn, outcome)

    def _outcome(self, turn: _Turn, event: SseEvent, at_ns: int) -> Outcome | None:
        """What an event makes of its turn; None while it goes on."""
        answer, attempt = turn.answer, turn.answer.attempt
        self._count_read(turn)
        answer.at_ns, answer.previous_ns = at_ns, max(self._read_before_ns, turn.sent_ns)
        if attempt.first_event_ns == MISSING_NS and (again := _again(event.data)) is not None:
            return _retried(turn, Ended(Ending.COMPLETE, at_ns), again)
        if attempt.first_event_ns == MISSING_NS and (status := _refused(event.data)):
            answer.attempt.status = status  # what would have been an HTTP answer of its own
            answer.on_body(event.data)
            return Outcome(Ended(Ending.COMPLETE, at_ns))
        if attempt.first_byte_ns == MISSING_NS:
            attempt.first_byte_ns = at_ns
            attempt.status = _OK  # a turn has none of its own: that events come is its success so far
        answer.on_event(event)
        return Outcome(Ended(Ending.COMPLETE, at_ns)) if answer.is_done else None

    def _count_read(self, turn: _Turn) -> None:
        wire = self._frames.wire
        if turn.read != wire.reads:
            turn.read = wire.reads
            turn.answer.attempt.reads += 1
            turn.answer.attempt.user_stamps += wire.user_stamps - self._user_stamps

    def _closed(self, at_ns: int, text: str) -> None:
        for lane in self._lanes.values():
            for turn in lane.turns:
                heard = turn.answer.attempt.first_byte_ns != MISSING_NS
                ended = Ended(Ending.CUT if heard else Ending.SILENT, at_ns, text)
                # A server that thinks and then hangs up has failed the turn; only what was lost at once is asked again.
                was_stale = not heard and self.has_had_turns and at_ns - turn.sent_ns < STALE_NS
                _settle(turn, Outcome(ended, Again.LOST if was_stale else None))
            lane.turns.clear()


def _settle(turn: _Turn, outcome: Outcome) -> None:
    if not turn.over.done():
        turn.over.set_result(outcome)


def _retried(turn: _Turn, ended: Ended, again: Again) -> Outcome:
    """An end that asks for another try. A turn that did not go on from anything cannot be helped by its whole input."""
    return Outcome(ended, again if again is not Again.NOT_FOUND or turn.goes_on else None)


def _again(data: bytes) -> Again | None:
    """What an event says about asking again."""
    if len(data) > _MOST_MARKED_BYTES or b'"error"' not in data:
        return None
    error = _object(data).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return _RECOVERED.get(code) if isinstance(code, str) else None


def _refused(data: bytes) -> int:
    """The status of an error event that has one; else 0."""
    if len(data) > _MOST_MARKED_BYTES or b'"error"' not in data:
        return 0
    message = _object(data)
    status = message.get("status")
    return status if message.get("type") == "error" and isinstance(status, int) and 400 <= status < 600 else 0


def _object(data: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}
