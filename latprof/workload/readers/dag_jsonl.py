"""Reads a subset of AIPerf's ``dag_jsonl``: conversations that fork and spawn others, one a line.

    {"session_id": "root", "turns": [{"messages": [{"role": "user", "content": "..."}], "max_tokens": 64, "spawns": ["helper"]}, {...}]}
    {"session_id": "helper", "turns": [{"messages": [{"role": "user", "content": "..."}], "delay": 250}]}

A conversation that no other names is a root; a root with all that descends from it is one session. ``forks`` begin with their parent's
conversation and run beside it; ``spawns`` begin anew, and the parent waits for them at its next turn or at ``join_at``; nobody waits for
``pre_session_spawns``. ``delay`` is in ms. A turn without ``max_tokens`` asks for 256. Left out of the subset: messages of the assistant, images, and
tool definitions; ``model`` and ``extra_body`` are read over, they belong to the target.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from latprof.errors import ConfigError
from latprof.units import NS_PER_MS
from latprof.workload.outline import Outline, StepOutline, Trace, TurnOutline
from latprof.workload.sessions import NO_CONTEXT
from latprof.workload.trace import Value, item, items, span_ns, tokens, values

_OUTPUT_TOKENS = 256
_KEYS = {"messages", "model", "max_tokens", "tools", "extra_body", "extra", "forks", "spawns", "delay", "timestamp"}


class _Spawn(NamedTuple):
    """Children that begin after a turn, and the turn of their parent that waits for them."""

    children: tuple[str, ...]
    join_at: int


def read_dag_jsonl(file: Path, window_ns: int | None = None) -> Trace:
    """The roots of ``file``, in its order, each with all that descends from it.

    Raises:
        ConfigError: the file cannot be read, or a conversation (named by line) is not in the subset; a window was asked for.
    """
    if window_ns is not None:
        raise ConfigError(f"workload.trace_window means nothing for {file}: dag_jsonl holds no times of sessions; drop the key")
    conversations: dict[str, Value] = {}
    for value in values(file):
        name = item(value, "session_id", str, "a text")
        if name in conversations:
            raise ConfigError(f"{value.where}: session_id {name!r} stands for two conversations; rename one")
        conversations[name] = value
    children = {child for value in conversations.values() for child in _named(value)}
    roots = [name for name in conversations if name not in children]
    if not roots:
        raise ConfigError(f"workload.trace {file}:1: every conversation is forked or spawned by another; one must be the root")
    return Trace(tuple(_Telling(conversations).outline(root) for root in roots), is_timed=False)


class _Telling:
    """One session being told: steps in an order in which they could run."""

    def __init__(self, conversations: dict[str, Value]) -> None:
        self._conversations = conversations
        self._steps: list[StepOutline] = []
        self._under_way: list[str] = []

    def outline(self, root: str) -> Outline:
        self._conversation(root, (), NO_CONTEXT)
        return Outline(0, tuple(self._steps), root)

    def _conversation(self, name: str, after: tuple[int, ...], context: int) -> int:
        """Append a conversation and its descendants; the number of its last turn."""
        value = self._conversations[name]
        if name in self._under_way:
            raise ConfigError(f"{value.where}: {name!r} descends from itself; cut the circle")
        self._under_way.append(name)
        for child in _texts(value, "pre_session_spawns"):
            self._conversation(self._known(value, child), after, NO_CONTEXT)
        item(value, "turns", list, "a list of at least one turn")
        turns = items(value, "turns")
        awaited: dict[int, list[int]] = {}
        for number, turn in enumerate(turns):
            step = self._turn(turn, (*after, *awaited.get(number, ())), context)
            for child in _forks(turn):
                self._conversation(self._known(turn, child), (step,), step)
            for spawn in _spawns(turn, number):
                ends = [self._conversation(self._known(turn, child), (step,), NO_CONTEXT) for child in spawn.children]
                awaited.setdefault(spawn.join_at, []).extend(ends)
            after, context = (step,), step
        if not turns:
            raise ConfigError(f"{value.where}: turns must hold at least one turn, got none; drop the conversation")
        self._under_way.pop()
        return context

    def _turn(self, turn: Value, after: tuple[int, ...], context: int) -> int:
        if unknown := set(turn.fields) - _KEYS:
            raise ConfigError(f"{turn.where}: {min(unknown)} is not a key of a turn; known are {', '.join(sorted(_KEYS))}")
        system, prompt = _told(turn)
        if system and context != NO_CONTEXT:
            raise ConfigError(f"{turn.where}: a system message belongs at the beginning of a conversation; move it there")
        asked = turn.fields.get("max_tokens")
        output_tokens = _OUTPUT_TOKENS if asked is None else tokens(turn.where, "max_tokens", asked, at_least=1)
        think_ns = span_ns(turn.where, "delay", turn.fields.get("delay") or 0, NS_PER_MS)
        self._steps.append(TurnOutline(prompt, output_tokens, think_ns, after, context, system or None))
        return len(self._steps) - 1

    def _known(self, value: Value, child: str) -> str:
        if child not in self._conversations:
            raise ConfigError(f"{value.where}: there is no conversation with session_id {child!r}; add it or mend the name")
        return child


def _told(turn: Value) -> tuple[str, str]:
    """The system text and the new message; several messages of the client become one."""
    item(turn, "messages", list, "a list of messages with role and content")
    system: list[str] = []
    said: list[str] = []
    for message in items(turn, "messages"):
        role = item(message, "role", str, "system, developer, user or tool")
        if role not in {"system", "developer", "user", "tool"}:
            raise ConfigError(f"{message.where}: role {role!r} is not in the subset that is read; the answers are the run's own: drop it")
        (system if role in {"system", "developer"} else said).append(_content(message))
    if not any(said):
        raise ConfigError(f"{turn.where}: messages hold no text from the client; a turn needs one")
    return "\n\n".join(system), "\n\n".join(said)


def _content(message: Value) -> str:
    content = message.fields.get("content")
    if isinstance(content, str):
        return content
    parts = items(message, "content")
    for part in parts:
        if part.fields.get("type") not in ("text", "input_text"):
            raise ConfigError(f"{part.where}: only text is in the subset that is read, got {part.fields.get('type')!r}; drop the part")
    return "".join(item(part, "text", str, "a text") for part in parts)


def _named(value: Value) -> Iterator[str]:
    """Every conversation that this one forks or spawns."""
    yield from _texts(value, "pre_session_spawns")
    for number, turn in enumerate(items(value, "turns")):
        yield from _forks(turn)
        for spawn in _spawns(turn, number):
            yield from spawn.children


def _forks(turn: Value) -> Iterator[str]:
    for i, entry in enumerate(_list(turn, "forks")):
        yield entry if isinstance(entry, str) else item(_entry(turn, "forks", i, entry), "child", str, "a session_id")


def _spawns(turn: Value, number: int) -> Iterator[_Spawn]:
    for i, entry in enumerate(_list(turn, "spawns")):
        if isinstance(entry, str):
            yield _Spawn((entry,), number + 1)
            continue
        spawn = _entry(turn, "spawns", i, entry)
        join_at = spawn.fields.get("join_at")
        if join_at is not None and (not isinstance(join_at, int) or join_at <= number):
            raise ConfigError(f"{spawn.where}: join_at must be the number of a later turn, got {join_at!r} at turn {number}; raise it")
        yield _Spawn(tuple(_texts(spawn, "children")), number + 1 if join_at is None else join_at)


def _entry(turn: Value, key: str, i: int, entry: object) -> Value:
    if not isinstance(entry, dict):
        raise ConfigError(f"{turn.where}: {key}[{i}] must be a session_id or an object, got {str(entry)[:40]!r}; mend the line")
    return Value(f"{turn.where}: {key}[{i}]", entry)


def _list(turn: Value, key: str) -> list[object]:
    return [] if turn.fields.get(key) is None else item(turn, key, list, "a list of session_ids or objects")


def _texts(value: Value, key: str) -> list[str]:
    found = value.fields.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ConfigError(f"{value.where}: {key} must be a list of session_ids, got {str(found)[:60]!r}; mend the line")
    return found
