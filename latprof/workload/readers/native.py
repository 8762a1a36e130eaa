"""latprof's own form: one session graph a line. Everything that an outline holds, and nothing else; `docs/workloads.md` describes it.

{"id": "a", "at": "1.5s", "steps": [
   {"id": "ask", "prompt_tokens": 900, "output_tokens": 40},
   {"id": "grep", "tool": "grep", "takes": "300ms", "after": ["ask"]},
   {"id": "read", "tool": "read", "takes": "1.2s", "after": ["ask"]},
   {"prompt_tokens": 2000, "output_tokens": 60, "after": ["grep", "read"], "context": "ask"}]}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from latprof.config import DurationNs, PositiveInt
from latprof.errors import ConfigError
from latprof.workload.outline import BlockId, Made, Outline, StepOutline, Told, Trace, TurnOutline, graph_fault, in_order
from latprof.workload.sessions import NO_CONTEXT, Role, Tool
from latprof.workload.trace import Value, values

Step = Annotated[str | Annotated[int, Field(ge=0)], Field(description="an earlier step of the session: its id, or its number from 0")]
Tokens = Annotated[PositiveInt | None, Field(description="length of a text to be made")]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NativeTool(_Line):
    """A step of the client between turns."""

    id: str | None = None
    tool: Annotated[str, Field(description="its name")]
    takes_ns: Annotated[DurationNs, Field(alias="takes", description="from the end of the last step it comes after")] = 0
    after: Annotated[tuple[Step, ...] | None, Field(description="steps that must have ended; left out: the step before")] = None


class NativeTurn(_Line):
    """One exchange. Its message is a text, or a length; so is its answer, for the turns that continue it."""

    id: str | None = None
    prompt: Annotated[str | None, Field(min_length=1)] = None
    prompt_tokens: Tokens = None
    blocks: Annotated[tuple[BlockId, ...], Field(description="the message to be made begins with these; equal ids are equal text")] = ()
    block_tokens: Tokens = None
    system: Annotated[str | None, Field(min_length=1)] = None
    system_tokens: Tokens = None
    output_tokens: Annotated[PositiveInt | None, Field(description="asked for; left out: as long as the answer")] = None
    answer: Annotated[str | None, Field(min_length=1)] = None
    answer_tokens: Tokens = None
    context: Annotated[Step | None, Field(description="the turn whose conversation this one continues")] = None
    after: Annotated[tuple[Step, ...] | None, Field(description="steps that must have ended; left out: the step before")] = None
    think_ns: Annotated[DurationNs, Field(alias="think", description="from the end of the last step it comes after")] = 0
    at_ns: Annotated[DurationNs | None, Field(alias="at", description="not before this time from the session's start")] = None
    role: Role = "user"

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> NativeTurn:
        if (self.prompt is None) == (self.prompt_tokens is None):
            raise ValueError("a turn needs either prompt or prompt_tokens; give one of them")
        for text, length in (("answer", "answer_tokens"), ("system", "system_tokens")):
            if getattr(self, text) is not None and getattr(self, length) is not None:
                raise ValueError(f"{text} and {length} exclude each other; drop one of them")
        if self.output_tokens is None and self.answer is None and self.answer_tokens is None:
            raise ValueError("a turn needs output_tokens, or an answer to take the length from; give one of them")
        if bool(self.blocks) != (self.block_tokens is not None):
            raise ValueError("blocks and block_tokens belong together; give both or neither")
        if self.blocks and self.prompt_tokens is None:
            raise ValueError("blocks are part of a text to be made; give its length in tokens")
        return self


def _kind(step: object) -> str:
    is_tool = isinstance(step, NativeTool) or (isinstance(step, Mapping) and "tool" in step)
    return "tool" if is_tool else "turn"


class NativeSession(_Line):
    """A conversation or an agent task: steps in an order in which they could run."""

    id: str = ""
    at_ns: Annotated[DurationNs | None, Field(alias="at", description="its start, from any zero; in all lines of a file or in none")] = None
    steps: Annotated[
        tuple[Annotated[Annotated[NativeTurn, Tag("turn")] | Annotated[NativeTool, Tag("tool")], Discriminator(_kind)], ...],
        Field(min_length=1),
    ]


def read_native(file: Path, window_ns: int | None = None) -> Trace:
    """The sessions of ``file`` that start less than ``window_ns`` after the first of them, each whole.

    Raises:
        ConfigError: the file cannot be read, or a line of it (named by number) is not what the format says.
    """
    outlines: list[Outline] = []
    timed: bool | None = None
    for value in values(file):
        session = _session(value)
        is_timed = session.at_ns is not None
        if timed not in {None, is_timed}:
            raise ConfigError(f"{value.where}: some sessions of the file have at and this one is not like them; give it to all or to none")
        timed = is_timed
        outlines.append(_outline(value.where, session))
    if window_ns is not None and not timed:
        raise ConfigError(f"workload.trace_window means nothing for {file}: its sessions have no at; drop the key")
    return in_order(outlines, window_ns=window_ns, is_timed=bool(timed))


def native_lines(sessions: Iterable[Outline], *, is_timed: bool = True) -> Iterable[bytes]:
    """``sessions`` as lines of a native file, line ends included; reading them gives the same outlines."""
    for session in sessions:
        said: dict[str, Any] = {"id": session.name} if session.name else {}
        if is_timed:
            said["at"] = f"{session.offset_ns}ns"
        said["steps"] = [_written(number, step) for number, step in enumerate(session.steps)]
        yield orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def native_schema() -> dict[str, Any]:
    """The JSON Schema of one line."""
    schema = NativeSession.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "latprof workload, one session a line"}


# --- reading ------------------------------------------------------------------------------------------------------------------------------


def _session(value: Value) -> NativeSession:
    try:
        return NativeSession.model_validate(value.fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"] if part not in {"turn", "tool"})
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{value.where}: {path}: {said}; mend or drop the line") from None


def _outline(where: str, session: NativeSession) -> Outline:
    numbers: dict[str | int, int] = {}
    steps: list[StepOutline] = []
    for number, step in enumerate(session.steps):
        after = (
            tuple(_number(where, number, one, numbers) for one in step.after) if step.after is not None else (number - 1,) * (number > 0)
        )
        if isinstance(step, NativeTool):
            steps.append(Tool(step.tool, step.takes_ns, after))
        else:
            context = NO_CONTEXT if step.context is None else _number(where, number, step.context, numbers)
            steps.append(_turn(step, after, context))
        numbers[number] = number
        if step.id is not None and numbers.setdefault(step.id, number) != number:
            raise ConfigError(f"{where}: steps.{number}.id {step.id!r} stands for two steps; rename one")
    if fault := graph_fault(steps):
        raise ConfigError(f"{where}: {fault}")
    return Outline(session.at_ns or 0, tuple(steps), session.id)


def _number(where: str, number: int, step: str | int, numbers: Mapping[str | int, int]) -> int:
    if step not in numbers:
        raise ConfigError(
            f"{where}: steps.{number} names step {step!r}, and no step before it is called that; order the steps as they could run"
        )
    return numbers[step]


def _turn(step: NativeTurn, after: tuple[int, ...], context: int) -> TurnOutline:
    prompt = _told(step.prompt, step.prompt_tokens, step.blocks, step.block_tokens or 0)
    assert prompt is not None, "validated"  # noqa: S101 - for the type checker
    return TurnOutline(
        prompt,
        step.output_tokens if step.output_tokens is not None or step.answer is not None else step.answer_tokens,
        step.think_ns,
        after,
        context,
        _told(step.system, step.system_tokens),
        _told(step.answer, step.answer_tokens),
        step.role,
        step.at_ns,
    )


def _told(text: str | None, length: int | None, blocks: tuple[BlockId, ...] = (), block_tokens: int = 0) -> Told | None:
    if length is None:
        return text
    return Made(length, blocks, block_tokens if blocks else 0)


# --- writing ------------------------------------------------------------------------------------------------------------------------------


def _written(number: int, step: StepOutline) -> dict[str, Any]:
    """What is as the reader takes it to be is left out."""
    usual = (number - 1,) if number else ()
    after = {} if step.after == usual else {"after": step.after}
    if isinstance(step, Tool):
        return {"tool": step.name, "takes": f"{step.takes_ns}ns", **after}
    said = _written_text("prompt", step.prompt) | _written_text("system", step.system)
    if step.output_tokens is not None:
        said["output_tokens"] = step.output_tokens
    said |= _written_text("answer", step.answer)
    if step.context != NO_CONTEXT:
        said["context"] = step.context
    if step.think_ns:
        said["think"] = f"{step.think_ns}ns"
    if step.at_ns is not None:
        said["at"] = f"{step.at_ns}ns"
    if step.role != "user":
        said["role"] = step.role
    return said | after


def _written_text(key: str, told: Told | None) -> dict[str, Any]:
    if told is None:
        return {}
    if isinstance(told, str):
        return {key: told}
    shared = {"blocks": told.blocks, "block_tokens": told.block_tokens} if told.blocks else {}
    return {f"{key}_tokens": told.tokens, **shared}
