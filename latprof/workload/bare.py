"""Sessions without their texts: the same graph, times and lengths, and in place of every text the names of its blocks.

A block is a stretch of a whole prompt as long as a prefix cache's; two prompts that begin alike have the same names there, as they would have the same
hashes. Text of shared blocks, and recorded text, is named by what it says; from the first text that is a session's own on, a name is used once.

    prompt     |---- shared ----|-------- own --------|
    blocks     | a     | b     | c1    | c2    | (rest)           b is shared with whoever begins with the same two blocks of text
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from latprof.workload.outline import Made, Outline, Told, TurnOutline
from latprof.workload.sessions import NO_CONTEXT, Session, Step, Tool, Turn

Encode = Callable[[str], Sequence[int]]
"""The tokens of a recorded text."""

# Names of own blocks: the session's number above, a running number below. Shared ones have the bit above both set.
_OWN_BITS = 32
_SHARED = 1 << 63


class Bare(NamedTuple):
    """What one turn sends: the tokens of its message (its system text aside), of the whole prompt, and the names of its full blocks.

    ``lone_blocks`` more come behind those: of text that no other turn has, so that they need no names.
    """

    message_tokens: int
    prompt_tokens: int
    blocks: tuple[int, ...]
    lone_blocks: int = 0


class _Said(NamedTuple):
    """A conversation so far. ``last`` is the name of the last shared block (0: none) and ``open`` what lies behind it; None once text is own.

    ``lone_blocks`` follow ``blocks`` where nothing follows the conversation.
    """

    tokens: int = 0
    blocks: tuple[int, ...] = ()
    last: int = 0
    open: tuple[object, ...] | None = ()
    open_tokens: int = 0
    lone_blocks: int = 0


_NOTHING = _Said()


@dataclass(slots=True)
class Naming:
    """Names the blocks of one workload, ``block_tokens`` tokens each. ``plans_answers``: as `latprof.workload.writing.Pen` has it.

    The same sessions asked for in the same order are named alike.
    """

    block_tokens: int
    encode: Encode
    plans_answers: bool = True
    beginnings: dict[tuple[object, ...], _Said] = field(default_factory=dict)
    _shared: dict[tuple[int, tuple[object, ...]], int] = field(default_factory=dict)

    def turns(self, outline: Outline, session: int, lap: int = 0) -> dict[int, Bare]:
        """Step number of each turn -> what it sends. ``session`` and ``lap`` as in `latprof.workload.writing.written`."""
        naming = _Session(self, session, lap)
        continued = {step.context for step in outline.steps if isinstance(step, TurnOutline)}
        said: dict[int, _Said] = {NO_CONTEXT: _NOTHING}
        sent: dict[int, Bare] = {}
        for number, step in enumerate(outline.steps):
            if not isinstance(step, TurnOutline):
                continue
            before = said[step.context]
            if step.system is not None:
                before = naming.add(before, step.system)
            asked = naming.add(before, step.prompt, is_continued=number in continued)
            sent[number] = Bare(asked.tokens - before.tokens, asked.tokens, asked.blocks, asked.lone_blocks)
            if number in continued:
                said[number] = naming.add(asked, self._answer(step))
        return sent

    def only_turn(self, step: TurnOutline, session: int, lap: int = 0) -> Bare:
        """`turns` of a session that has this one step: most sessions of most workloads."""
        told = step.prompt
        if isinstance(told, Made) and step.system is None:
            said = self.beginnings.get((lap, told.blocks, told.block_tokens, told.shared_tokens)) if told.blocks else _NOTHING
            if said is not None and said.tokens < told.tokens:
                return Bare(told.tokens, told.tokens, said.blocks, told.tokens // self.block_tokens - len(said.blocks))
        return self.turns(Outline(0, (step,)), session, lap)[0]

    def _answer(self, step: TurnOutline) -> Told:
        if self.plans_answers and step.answer is not None:
            return step.answer
        return Made(self.output_tokens(step))

    def output_tokens(self, step: TurnOutline) -> int:
        """How much answer the turn asks for."""
        if step.output_tokens is not None:
            return step.output_tokens
        return self.length(step.answer) if step.answer is not None else 1

    def length(self, told: Told) -> int:
        """The tokens of a text."""
        return told.tokens if isinstance(told, Made) else len(self.encode(told))

    def shared(self, last: int, contents: tuple[object, ...]) -> int:
        """The name of a block that holds ``contents`` and follows the block called ``last``."""
        known = self._shared
        return known.setdefault((last, contents), _SHARED | (len(known) + 1))


@dataclass(slots=True)
class _Session:
    """The naming of one session's blocks."""

    naming: Naming
    session: int
    lap: int
    used: int = 0

    def add(self, said: _Said, told: Told, *, is_continued: bool = True) -> _Said:
        """``said`` and ``told`` after it."""
        if said.open is None:
            return self._own(said, self.naming.length(told), is_continued)
        if isinstance(told, str):
            for part in _cut(self.naming.encode(told), said.open_tokens, self.naming.block_tokens):
                said = self._put(said, ("text", array("I", part).tobytes()), len(part))
            return said
        own_tokens = told.tokens - told.shared_tokens
        if told.shared_tokens:
            said = self._shared(said, told)
        return self._own(said, own_tokens, is_continued) if own_tokens else said

    def _shared(self, said: _Said, told: Made) -> _Said:
        """``said`` and the blocks of ``told`` after it; the beginnings of conversations are remembered, for most are alike."""
        known = (self.lap, told.blocks, told.block_tokens, told.shared_tokens) if said is _NOTHING else None
        if known is not None and known in self.naming.beginnings:
            return self.naming.beginnings[known]
        left = told.shared_tokens
        for block in told.blocks:
            of_block = min(left, told.block_tokens)
            for begin, end in self._ranges(of_block, said.open_tokens):
                said = self._put(said, (self.lap, block, begin, end), end - begin)
            left -= of_block
            if not left:
                break
        if known is not None and len(told.blocks) == 1:  # a trace's prompts begin alike, and are all different
            self.naming.beginnings[known] = said
        return said

    def _ranges(self, tokens: int, open_tokens: int) -> Iterator[tuple[int, int]]:
        """A shared block cut where cache blocks end."""
        begin, size = 0, self.naming.block_tokens
        end = min(tokens, size - open_tokens)
        while begin < tokens:
            yield begin, end
            begin, end = end, min(tokens, end + size)

    def _put(self, said: _Said, content: object, tokens: int) -> _Said:
        """Shared text that ends at a cache block's end at the latest."""
        opened = (*(said.open or ()), content)
        if said.open_tokens + tokens < self.naming.block_tokens:
            return _Said(said.tokens + tokens, said.blocks, said.last, opened, said.open_tokens + tokens)
        name = self.naming.shared(said.last, opened)
        return _Said(said.tokens + tokens, (*said.blocks, name), name)

    def _own(self, said: _Said, tokens: int, is_continued: bool) -> _Said:
        """Text that nobody else has: every block that ends in it gets a name of its own, if only it will be asked for again."""
        whole = said.tokens + tokens
        new = whole // self.naming.block_tokens - len(said.blocks)
        if not is_continued:
            return _Said(whole, said.blocks, 0, None, 0, new)
        first = (self.session << _OWN_BITS) + self.used
        self.used += new
        return _Said(whole, (*said.blocks, *range(first, first + new)), 0, None)


def _cut(tokens: Sequence[int], open_tokens: int, block_tokens: int) -> Iterator[Sequence[int]]:
    """``tokens`` cut where cache blocks end, the first of which has ``open_tokens`` in it already."""
    begin, end = 0, block_tokens - open_tokens
    while begin < len(tokens):
        yield tokens[begin:end]
        begin, end = end, end + block_tokens


def bare_session(naming: Naming, outline: Outline, session: int) -> Session:
    """``outline`` as session number ``session`` with empty texts: everything that can be said of it without them."""
    return Session(session, tuple(_step(naming, step) for step in outline.steps))


def _step(naming: Naming, step: TurnOutline | Tool) -> Step:
    if isinstance(step, Tool):
        return step
    lengths = naming.length(step.prompt), naming.output_tokens(step)
    return Turn("", *lengths, step.think_ns, step.after, step.context, "", None, step.role, step.at_ns)
