"""Reads BurstGPT (Wang et al., CC-BY-4.0), with the two session columns of v1.2 or without them.

    Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
    5.0,31,12.4,ChatGPT,472,18,490,Conversation log

``Timestamp`` in seconds. Rows of one session id are one session; a request longer than all that was said before continues the conversation, any
other begins anew. A row without a session id is a session of its own. A failed request (0 response tokens) is replayed with 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from latprof.workload.outline import Made, Outline, StepOutline, Trace, TurnOutline, continuing, in_order
from latprof.workload.sessions import NO_CONTEXT
from latprof.workload.trace import in_window, rows, span_ns, tokens

COLUMNS = ("Timestamp", "Session ID", "Elapsed time", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")
WITHOUT_SESSIONS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")


@dataclass(slots=True)
class _Chat:
    """A session that is being put together; ``said_tokens`` is what its conversation holds so far."""

    name: str
    start_ns: int
    steps: list[StepOutline] = field(default_factory=list)
    said_tokens: int = 0

    def add(self, now_ns: int, prompt_tokens: int, output_tokens: int) -> None:
        """The next request of the session: in its time, and after the one before was answered."""
        before = len(self.steps) - 1
        new_tokens = continuing(self.said_tokens, prompt_tokens) if self.steps else None
        context, message = (NO_CONTEXT, prompt_tokens) if new_tokens is None else (before, new_tokens)
        after, at_ns = ((before,), now_ns - self.start_ns) if self.steps else ((), None)
        self.steps.append(TurnOutline(Made(message), output_tokens, after=after, context=context, at_ns=at_ns))
        self.said_tokens = prompt_tokens + output_tokens


def read_burstgpt(file: Path, window_ns: int | None = None) -> Trace:
    """The requests of ``file`` that came less than ``window_ns`` after its first one, by session; what lies behind is not looked at.

    Raises:
        ConfigError: the file cannot be read, or a line of it (named by number) is not what the format says.
    """
    chats: list[_Chat] = []
    by_id: dict[str, _Chat] = {}
    stamped = (
        (row, span_ns(row.where, "Timestamp", row.fields["Timestamp"])) for row in rows(file, [COLUMNS, WITHOUT_SESSIONS], "BurstGPT")
    )
    for (where, fields), now_ns in in_window(stamped, "Timestamp", window_ns):
        name = fields.get("Session ID", "").strip()
        chat = by_id.get(name) if name else None
        if chat is None:
            chat = _Chat(name, now_ns)
            chats.append(chat)
            by_id[name] = chat
        prompt_tokens = tokens(where, "Request tokens", fields["Request tokens"], at_least=1)
        chat.add(now_ns, prompt_tokens, max(1, tokens(where, "Response tokens", fields["Response tokens"])))
    return in_order([Outline(chat.start_ns, tuple(chat.steps), chat.name) for chat in chats])
