"""Request bodies as pieces of bytes: what many requests share (a system prompt, a prefix block, a growing context) is escaped and held once.

{"model":"m","messages":[{"role":"user","content":" + piece + piece + "}],"stream":true}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from latprof.workload.sessions import Text

Body = tuple[bytes, ...]
"""The pieces of one body, in order; sent without being joined."""

# Stands where a text belongs while the rest is written; a NUL is in no configuration.
_MARK: Final = "\0text\0"
_MARK_JSON: Final = orjson.dumps(_MARK)
# Below this a copy costs less than another entry in the list of what to send. A prefix block of 512 tokens has about 3 kB.
_SHARED_BYTES = 1_024
_MOST_HELD_BYTES = 64 * 2**20


class Said:
    """A text inside a body that is about to be written: a dialect wraps every `Text` in one."""

    __slots__ = ("text",)

    def __init__(self, text: Text) -> None:
        self.text = text


class BodyWriter:
    """Writes bodies; equal pieces of text become the same bytes object, as long as the writer still knows them.

    It forgets everything when it knows 64 MB: real answers, which no other session shares, would else pile up.
    """

    def __init__(self) -> None:
        self._escaped: dict[str, bytes] = {}
        self._held_bytes = 0

    def write(self, body: Mapping[str, Any], extra_body: Mapping[str, Any]) -> Body:
        """``body`` with ``extra_body`` laid over it (a null there takes a key away) as JSON.

        Raises:
            TypeError: something in it cannot be written as JSON.
        """
        texts: list[Text] = []

        def mark(value: object) -> str:
            if isinstance(value, Said):
                texts.append(value.text)
                return _MARK
            raise TypeError(f"{type(value).__name__} is not JSON")

        laid = {key: value for key, value in (dict(body) | dict(extra_body)).items() if value is not None}
        frame = orjson.dumps(laid, default=mark).split(_MARK_JSON)
        pieces = [frame[0]]
        for text, rest in zip(texts, frame[1:], strict=True):
            pieces.append(b'"')
            pieces += [self._escape(part) for part in ((text,) if isinstance(text, str) else text)]
            pieces.append(b'"' + rest)
        return _joined(pieces)

    def _escape(self, text: str) -> bytes:
        """The inside of a JSON string."""
        escaped = self._escaped.get(text)
        if escaped is None:
            if self._held_bytes > _MOST_HELD_BYTES:
                self._escaped.clear()
                self._held_bytes = 0
            escaped = self._escaped[text] = orjson.dumps(text)[1:-1]
            self._held_bytes += len(escaped)
        return escaped


def _joined(pieces: list[bytes]) -> Body:
    """Runs of short pieces joined; a long piece stays the object it is, because others may share it."""
    body: list[bytes] = []
    short: list[bytes] = []
    for piece in pieces:
        if len(piece) < _SHARED_BYTES:
            short.append(piece)
            continue
        if short:
            body.append(b"".join(short))
            short = []
        body.append(piece)
    return (*body, b"".join(short)) if short else tuple(body)
